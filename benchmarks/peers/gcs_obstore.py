"""`wetread` with obstore in the lean reader's place: what the whole way from bucket to rows costs with it."""

from __future__ import annotations

import sys
import threading
from datetime import timedelta
from typing import Any

import obstore
from obstore.store import GCSStore

from wetread.cli import main
from wetread.runtime.entries import Entry
from wetread.runtime.gcs import reading as gcs_reads
from wetread.runtime.gcs.client import Storage, split_location
from wetread.runtime.gcs.object_readers import check_bytes


class ObstoreReader:
    """Reads objects of public buckets, or an emulator's, as the lean reader does."""

    name = "obstore"

    def __init__(self, storage: Storage) -> None:
        self._endpoint = storage.endpoint
        self._stores: dict[str, Any] = {}
        self._lock = threading.Lock()

    def read(self, entry: Entry) -> bytes:
        bucket, name = split_location(entry.name)
        store = self._stores.get(bucket) or self._open(bucket)
        data = bytes(obstore.get(store, name, options={"version": entry.version}).bytes())
        check_bytes(data, entry)
        return data

    def _open(self, bucket: str) -> Any:
        with self._lock:
            if bucket not in self._stores:
                self._stores[bucket] = GCSStore(
                    bucket,
                    config={"base_url": self._endpoint, "skip_signature": True},
                    client_options={"allow_http": True, "timeout": timedelta(seconds=60)},
                    retry_config={"max_retries": 0},
                )
            return self._stores[bucket]


if __name__ == "__main__":
    gcs_reads.open_fast_reader = ObstoreReader
    sys.exit(main())
