"""systemd's manager over D-Bus: the calls that the systemd driver makes, by jeepney. Loaded for it only."""

from __future__ import annotations

import posix
import time

from jeepney import DBusAddress, MatchRule, message_bus, new_method_call
from jeepney.io.blocking import open_dbus_connection
from jeepney.wrappers import DBusErrorResponse, unwrap_msg

from pyruntime.errors import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # A property as D-Bus has it: its name, and its type and value.
    Property = tuple[str, tuple[str, object]]

_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_MANAGER = DBusAddress(_PATH, _NAME, f"{_NAME}.Manager")
_JOB_REMOVED = MatchRule(type="signal", interface=f"{_NAME}.Manager", member="JobRemoved", path=_PATH)
_JOB_SECONDS = 30.0
_CALL_SECONDS = 10.0
EXISTS = f"{_NAME}.UnitExists"
NO_SUCH_UNIT = f"{_NAME}.NoSuchUnit"


class BusError(StateError):
    """systemd refused. name is D-Bus's name of the error, "" when it could not be asked."""

    def __init__(self, message: str, name: str = "", **words: str | None) -> None:
        super().__init__(message, **words)
        self.name = name


class Bus:
    """A connection to systemd: the system's, or with user that of this process's user."""

    def __init__(self, *, user: bool) -> None:
        try:
            self.connection = open_dbus_connection(_user_address() if user else "SYSTEM")
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            which = "the user's" if user else "the system's"
            raise BusError(
                f"cannot reach systemd over {which} D-Bus: {error}",
                why="DBUS_SESSION_BUS_ADDRESS and XDG_RUNTIME_DIR do not lead to it" if user else None,
                hint="log in with a session of systemd's (loginctl enable-linger)" if user else "start dbus",
            ) from None
        # The signals have to be asked for twice: of systemd, and of the bus in between.
        self.call("Subscribe")
        self.connection.send_and_get_reply(message_bus.AddMatch(_JOB_REMOVED), timeout=_CALL_SECONDS)

    def close(self) -> None:
        """End the connection."""
        self.connection.close()

    def call(self, method: str, signature: str = "", body: tuple[object, ...] = (), at: DBusAddress = _MANAGER) -> Any:
        """Call a method: the body of the reply. Raises BusError."""
        message = new_method_call(at, method, signature or None, body)
        try:
            return unwrap_msg(self.connection.send_and_get_reply(message, timeout=_CALL_SECONDS))
        except DBusErrorResponse as error:
            text = error.data[0] if error.data else error.name
            raise BusError(f"systemd: {method}: {text}", error.name) from None
        except (OSError, TimeoutError) as error:
            raise BusError(f"systemd does not answer {method}: {error or 'time-out'}") from None

    def run_job(self, method: str, signature: str, body: tuple[object, ...]) -> None:
        """Call a method that queues a job, and wait until it is done. Raises BusError when it fails."""
        with self.connection.filter(_JOB_REMOVED) as signals:
            (job,) = self.call(method, signature, body)
            deadline = time.monotonic() + _JOB_SECONDS
            while True:
                try:
                    left = max(0.001, deadline - time.monotonic())
                    signal = self.connection.recv_until_filtered(signals, timeout=left)
                except (OSError, TimeoutError):
                    raise BusError(f"systemd has not done {method} of {body[0]} within {_JOB_SECONDS:g} s") from None
                _, done, _, result = signal.body
                if done == job:
                    break
        if result != "done":
            raise BusError(f"systemd: {method} of {body[0]}: the job ended with: {result}")

    def control_group(self, unit: str) -> str:
        """Return the cgroup of a unit, from the root of the hierarchy on."""
        (path,) = self.call("GetUnit", "s", (unit,))
        properties = DBusAddress(path, _NAME, "org.freedesktop.DBus.Properties")
        ((_, value),) = self.call("Get", "ss", (f"{_NAME}.Scope", "ControlGroup"), properties)
        return str(value)


def _user_address() -> str:
    address = posix.environ.get(b"DBUS_SESSION_BUS_ADDRESS", b"").decode()
    directory = posix.environ.get(b"XDG_RUNTIME_DIR", b"").decode() or f"/run/user/{posix.geteuid()}"
    return address or f"unix:path={directory}/bus"
