output "configuration" {
  description = "What belongs into config.toml, clickhouse and region aside"
  value       = <<-TOML
    [aws]
    role_arn = "${aws_iam_role.dyncdc.arn}"

    [kinesis]
    stream = "${aws_kinesis_stream.changes.arn}"

    [[tables]]
    dynamodb = "${aws_dynamodb_table.source.name}"
    snapshot = { method = "export", bucket = "${aws_s3_bucket.exports.bucket}", prefix = "${var.export_prefix}" }
  TOML

  depends_on = [aws_dynamodb_kinesis_streaming_destination.changes]
}
