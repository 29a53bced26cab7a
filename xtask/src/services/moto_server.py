"""Starts moto with the promise that S3 makes and moto does not keep on a busy machine: a conditional write looks whether
the object is there and writes it in one step. moto does both, one after the other, on a thread per request."""

import functools
import threading

from moto.s3.responses import S3Response
from moto.server import main

LOCK = threading.RLock()


def in_one_step(method):
    @functools.wraps(method)
    def locked(self, *arguments, **named):
        with LOCK:
            return method(self, *arguments, **named)

    return locked


for name in ("put_object", "_key_response_post"):
    setattr(S3Response, name, in_one_step(getattr(S3Response, name)))

main()
