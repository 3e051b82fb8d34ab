"""The proxy does what the tests behind it believe it does."""

import contextlib
import socket
import threading
import time

import pytest

from tests.fakes.network import (
    Bandwidth,
    BlackHole,
    Corrupt,
    Down,
    FaultProxy,
    HalfClose,
    Latency,
    Limit,
    Reset,
    Slicer,
    SlowClose,
    Toxic,
)

ANSWER = b"0123456789" * 10


@pytest.fixture(scope="module")
def proxy():
    """Before a server that says ANSWER to each byte it gets, and closes on a zero."""
    with socket.create_server(("127.0.0.1", 0)) as listener, FaultProxy(listener.getsockname()[1]) as proxy:
        thread = threading.Thread(target=serve, args=[listener])
        thread.start()
        yield proxy
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def serve(listener):
    threads = []
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threads.append(threading.Thread(target=answer, args=[connection]))
            threads[-1].start()
    for thread in threads:
        thread.join()


def answer(connection):
    with connection, contextlib.suppress(OSError):
        while (asked := connection.recv(1)) and asked != b"\0":
            connection.sendall(ANSWER)


@contextlib.contextmanager
def connected(proxy):
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        assert ask(client) == ANSWER
        yield client


def ask(client, question=b"?"):
    """What comes until the whole answer is there, or the connection is over."""
    client.sendall(question)
    data = b""
    while len(data) < len(ANSWER) and (piece := client.recv(1000)):
        data += piece
    return data


def took(call):
    started_s = time.monotonic()
    call()
    return time.monotonic() - started_s


@pytest.mark.parametrize(
    ("toxic", "least_s"),
    [(Toxic(), 0), (Latency(0.2), 0.2), (Bandwidth(1000), 0.1), (Slicer(), 0)],
    ids=lambda value: str(value)[:30],
)
def test_what_only_slows_changes_nothing(proxy, toxic, least_s):
    with connected(proxy) as client:
        with proxy.suffering(toxic):
            assert took(lambda: ask(client)) >= least_s
            assert ask(client) == ANSWER
        assert ask(client) == ANSWER


def test_a_slow_close(proxy):
    with connected(proxy) as client, proxy.suffering(SlowClose(0.2)):
        assert took(lambda: ask(client, b"\0")) >= 0.2


def test_a_black_hole_swallows_and_ends_with_a_reset(proxy):
    with connected(proxy) as client:
        with proxy.suffering(BlackHole()):
            client.sendall(b"?")
            client.settimeout(0.2)
            with pytest.raises(TimeoutError):
                client.recv(1)
            client.settimeout(10)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with connected(proxy):
        pass


def test_a_reset(proxy):
    with connected(proxy) as client, proxy.suffering(Reset()), pytest.raises(ConnectionResetError):
        ask(client)


@pytest.mark.parametrize("toxic", [Limit(30), HalfClose(30)], ids=["limit", "half-close"])
def test_answers_that_end_early(proxy, toxic):
    with connected(proxy) as client, proxy.suffering(toxic):
        assert ask(client) == ANSWER[:30]
        if isinstance(toxic, HalfClose):
            client.sendall(b"?")
    with connected(proxy):
        pass


def test_nobody_listens(proxy):
    with connected(proxy) as client, proxy.suffering(Down()):
        assert client.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
    with connected(proxy):
        pass


def test_every_byte_is_another(proxy):
    with connected(proxy) as client:
        with proxy.suffering(Corrupt()):
            changed = ask(client)
            assert len(changed) == len(ANSWER)
            assert all(one != other for one, other in zip(changed, ANSWER, strict=True))
        with pytest.raises(ConnectionResetError):
            client.recv(1)
