"""A headless Chromium, spoken to over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson

from peavine.base.lifetimes import scope
from peavine.client.transport import Transport, Upgraded
from peavine.wire.websocket import Message, WebSocket
from peavine.wire.websocket_headers import request_headers

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --remote-debugging-port=0 about:blank"
)


class Page:
    """One tab. `requests` are the addresses it asked for, `refused` those answered with 403, `problems` what its
    console complained about, `saved` the names of files whose download has ended, see `save_into`."""

    def __init__(self, connection: Upgraded) -> None:
        self._connection = connection
        self._socket = WebSocket(client=True, bytes_max=64 << 20)
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.requests: list[str] = []
        self.refused: list[str] = []
        self.problems: list[str] = []
        self.saved: asyncio.Queue[str] = asyncio.Queue()
        self._saving: dict[str, str] = {}

    async def run(self) -> None:
        while data := await self._connection.read():
            for message in self._socket.receive(data):
                if isinstance(message, Message):
                    self._take(orjson.loads(message.data))
            self._connection.write(self._socket.output())

    def _take(self, told: dict[str, Any]) -> None:
        if told.get("id") in self._answers:
            self._answers.pop(told["id"]).set_result(told)
        params = told.get("params", {})
        if told.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif told.get("method") == "Network.responseReceived" and params["response"]["status"] == 403:
            self.refused.append(params["response"]["url"])
        elif told.get("method") == "Browser.downloadWillBegin":
            self._saving[params["guid"]] = params["suggestedFilename"]
        elif told.get("method") == "Browser.downloadProgress" and params["state"] != "inProgress":
            self.saved.put_nowait(self._saving.pop(params["guid"], ""))
        elif told.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            # A test elsewhere that makes a network device breaks the browser's connections; the page asks again.
            if "ERR_NETWORK_CHANGED" not in params["entry"]["text"]:
                self.problems.append(params["entry"]["text"] + " " + params["entry"].get("url", ""))
        elif told.get("method") == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(str(details.get("exception", {}).get("description") or details["text"]))

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._connection.write(
            self._socket.send(orjson.dumps({"id": number, "method": method, "params": params}), text=True)
        )
        told = await answer
        if "error" in told:
            raise RuntimeError(f"{method}: {told['error']}")
        return told["result"]

    async def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        told = await self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in told:
            raise RuntimeError(told["exceptionDetails"].get("exception", {}).get("description"))
        return told["result"].get("value")

    async def until(self, condition: str, seconds: float = 20.0) -> Any:
        """The first truthy value of a JavaScript expression, looked at in every frame. Raises TimeoutError."""
        script = f"""new Promise((resolve, reject) => {{
            const end = performance.now() + {seconds * 1000};
            const look = () => {{
                const value = (() => {{ try {{ return {condition} }} catch {{ return null }} }})();
                if (value) resolve(value === true || typeof value !== "object" ? value : true);
                else if (performance.now() > end) resolve("__too late__");
                else setTimeout(look, 20);
            }};
            look();
        }})"""
        value = await self.evaluate(script)
        if value == "__too late__":
            shown = await self.evaluate("document.body.innerText.slice(0, 2000)")
            raise TimeoutError(f"{condition}\nproblems: {self.problems}\npage: {shown}")
        return value

    async def click(self, selector: str, words: str = "") -> None:
        """Click the first element of the selector that has these words."""
        found = (
            f"[...document.querySelectorAll({orjson.dumps(selector).decode()})]"
            f".find(e => e.textContent.trim().includes({orjson.dumps(words).decode()}))"
        )
        await self.until(f"({found} && !{found}.disabled)")
        await self.evaluate(f"{found}.click()")

    async def fill(self, selector: str, text: str, event: str = "input") -> None:
        await self.until(f"document.querySelector({orjson.dumps(selector).decode()})")
        await self.evaluate(f"""(() => {{
            const e = document.querySelector({orjson.dumps(selector).decode()});
            e.value = {orjson.dumps(text).decode()};
            e.dispatchEvent(new Event("{event}", {{ bubbles: true }}));
        }})()""")

    async def upload(self, selector: str, *files: Path) -> None:
        """Choose files in a file input."""
        await self.until(f"document.querySelector({orjson.dumps(selector).decode()})")
        document = await self.send("DOM.getDocument")
        node = await self.send("DOM.querySelector", nodeId=document["root"]["nodeId"], selector=selector)
        await self.send("DOM.setFileInputFiles", nodeId=node["nodeId"], files=[str(file) for file in files])

    async def save_into(self, folder: Path) -> None:
        """Put what the page lets one download there, under the names that it gives."""
        await self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder), eventsEnabled=True)

    async def press(self, key: str, code: int, *, text: str = "", modifiers: int = 0) -> None:
        """One key, as the keyboard sends it. `modifiers`: 2 is Ctrl, 8 is Shift."""
        about = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        await self.send("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": text} if text else {}))
        await self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    async def type(self, text: str) -> None:
        await self.send("Input.insertText", text=text)

    async def size(self, width: int, height: int = 800) -> None:
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    async def prefer(self, scheme: str) -> None:
        """ "dark" or "light"."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.send("Emulation.setEmulatedMedia", features=features)

    async def open(self, address: str) -> None:
        """Go to a page and wait for its script; again if the network changed meanwhile."""
        for _ in range(3):
            await self.send("Page.navigate", url=address)
            try:
                await self.until("document.querySelector('#app > *')", 10)
                return
            except (TimeoutError, RuntimeError):
                self.problems.clear()
        raise TimeoutError(address)

    async def screenshot(self, *, width: int = 1280, height: int = 800, dark: bool = False) -> bytes:
        """A PNG."""
        await self.prefer("dark" if dark else "light")
        await self.size(width, height)
        picture = await self.send("Page.captureScreenshot", format="png")
        return base64.b64decode(picture["data"])


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Page]:
    """A fresh browser with one tab; its profile is gone afterwards."""
    assert PROGRAM
    profile = Path(tempfile.mkdtemp(prefix="peavine-chromium-"))
    nothing = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        PROGRAM,
        *FLAGS.split(),
        f"--user-data-dir={profile}",
        stdout=nothing,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    try:
        async with scope() as tasks:
            async with asyncio.timeout(60):
                line = b""
                while not line.startswith(b"DevTools listening on ws://"):
                    line = await process.stderr.readline()
                    assert line, "the browser ended"
            tasks.start(_drain(process.stderr))
            base = "http://" + line.decode().split("ws://")[1].split("/")[0]
            yield await _tab(Transport(base, None), tasks)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()
        shutil.rmtree(profile, ignore_errors=True)


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65536):
        continue


async def _tab(transport: Transport, tasks: Any) -> Page:
    answer = await transport.exchange(
        f"GET /json/list HTTP/1.1\r\nHost: {transport.authority}\r\n\r\n".encode(), idempotent=True
    )
    target = next(t for t in orjson.loads(await answer.read()) if t["type"] == "page")
    path = "/" + target["webSocketDebuggerUrl"].split("/", 3)[3]
    head = [
        ("Host", transport.authority),
        *request_headers(base64.b64encode(os.urandom(16)).decode()),
    ]
    request = f"GET {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in head) + "\r\n"
    connection = await transport.upgrade(request.encode())
    assert isinstance(connection, Upgraded)
    page = Page(connection)
    tasks.start(page.run())
    for domain in ("Page", "Runtime", "Network", "Log"):
        await page.send(f"{domain}.enable")
    return page
