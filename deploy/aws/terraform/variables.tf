variable "table_name" {
  description = "The DynamoDB table to replicate"
  type        = string
  default     = "orders"
}

variable "stream_name" {
  description = "The Kinesis stream that takes its changes"
  type        = string
  default     = "orders-changes"
}

variable "retention_hours" {
  description = "How long the stream keeps changes: the time in which an outage can be mended without a new snapshot"
  type        = number
  default     = 168
}

variable "export_bucket" {
  description = "The bucket for exports; made here"
  type        = string
}

variable "export_prefix" {
  description = "As snapshot.prefix in the configuration, without slashes around it"
  type        = string
  default     = "dyncdc"
}

variable "trusted_principals" {
  description = "ARNs of the identities that dyncdc runs under and that may assume its role"
  type        = list(string)
}

variable "external_id" {
  description = "As aws.external_id in the configuration; empty for none"
  type        = string
  default     = ""
}
