"""The commit protocol on Iceberg: token, stage, audit, publish, recover."""
