"""An S3 server of moto's on loopback, and a store of each kind."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from bedplate.release.bucket import BucketStore
from bedplate.release.directory import DirectoryStore
from bedplate.release.objects import ObjectStore

_BUCKET = "releases"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """URL of an S3 server with an empty bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    client.create_bucket(Bucket=_BUCKET)
    yield url
    server.stop()


@pytest.fixture(params=["directory", "bucket"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store: a directory, and a bucket's prefix."""
    if request.param == "directory":
        return DirectoryStore(tmp_path / "objects")
    options = {
        "endpoint": request.getfixturevalue("s3_endpoint"),
        "region": "us-east-1",
        "access_key_id": "test",
        "secret_access_key": "test",
        "client_options": {"allow_http": True},
    }
    return BucketStore(f"s3://{_BUCKET}/{uuid.uuid4().hex}", options)
