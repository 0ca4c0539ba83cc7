"""Embedded Postgres, S3, Elasticsearch and Dagster servers: started, found again, checked, stopped, never wiped.

Belongs here: processes, ports, credentials and health of the servers behind `data-pipeline up`. What is
stored in them belongs to the ledger, the tables and the demo.

    status = up(load_settings(), bucket="pp-dw-local", project_dir=Path.cwd())
    print(status.s3_endpoint)
"""

from etl_resources.stack.companion import Companion
from etl_resources.stack.lifecycle import down, status, up
from etl_resources.stack.report import ServerStatus, StackStatus

__all__ = ["Companion", "ServerStatus", "StackStatus", "down", "status", "up"]
