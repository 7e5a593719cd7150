# The AWS side of one dyncdc table. For a table that you have already: leave aws_dynamodb_table out, add the block
# point_in_time_recovery to your own, and name it below.

data "aws_partition" "this" {}

resource "aws_dynamodb_table" "source" {
  name         = var.table_name
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "id"

  attribute {
    name = "id"
    type = "S"
  }

  # exports need it
  point_in_time_recovery {
    enabled = true
  }
}

resource "aws_kinesis_stream" "changes" {
  name             = var.stream_name
  retention_period = var.retention_hours
  encryption_type  = "KMS"
  kms_key_id       = "alias/aws/kinesis"

  stream_mode_details {
    stream_mode = "ON_DEMAND"
  }
}

# microseconds: two changes of one item within a millisecond keep their order
resource "aws_dynamodb_kinesis_streaming_destination" "changes" {
  table_name                               = aws_dynamodb_table.source.name
  stream_arn                               = aws_kinesis_stream.changes.arn
  approximate_creation_date_time_precision = "MICROSECOND"
}

resource "aws_s3_bucket" "exports" {
  bucket = var.export_bucket
}

resource "aws_s3_bucket_public_access_block" "exports" {
  bucket                  = aws_s3_bucket.exports.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# an export is read once; a month leaves time for that
resource "aws_s3_bucket_lifecycle_configuration" "exports" {
  bucket = aws_s3_bucket.exports.id

  rule {
    id     = "exports-are-read-once"
    status = "Enabled"

    filter {
      prefix = "${var.export_prefix}/"
    }

    expiration {
      days = 30
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "AWS"
      identifiers = var.trusted_principals
    }

    dynamic "condition" {
      for_each = var.external_id == "" ? [] : [var.external_id]

      content {
        test     = "StringEquals"
        variable = "sts:ExternalId"
        values   = [condition.value]
      }
    }
  }
}

resource "aws_iam_role" "dyncdc" {
  name               = "dyncdc-${var.table_name}"
  assume_role_policy = data.aws_iam_policy_document.trust.json
}

resource "aws_iam_role_policy" "dyncdc" {
  for_each = toset(["stream", "sample", "export", "verify"])

  name = each.key
  role = aws_iam_role.dyncdc.id
  policy = templatefile("${path.module}/../policies/${each.key}.json", {
    table_arn  = aws_dynamodb_table.source.arn
    stream_arn = aws_kinesis_stream.changes.arn
    partition  = data.aws_partition.this.partition
    bucket     = aws_s3_bucket.exports.bucket
    prefix     = var.export_prefix
  })
}
