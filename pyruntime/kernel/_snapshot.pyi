# The compiled module of native/build.py, for mypy. Names and types: native/snapshot.h.
from typing import Any

class _FFI:
    NULL: Any
    def cast(self, ctype: str, value: Any) -> Any: ...
    def string(self, cdata: Any, maxlen: int = ...) -> bytes: ...

class _Lib:
    def snapshot_point(self) -> Any: ...

ffi: _FFI
lib: _Lib
