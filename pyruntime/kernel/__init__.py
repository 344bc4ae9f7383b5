"""The only door to the kernel: small functions over the cffi shim of `native/`.

`call` holds the one function that raises, `constants` every flag by name. Nothing outside this package
imports the shim. What Python itself offers (`posix.open`, `posix.mkdir`, …) is called directly, since it
raises OSError with the file's name.
"""
