"""A headless Chromium for the status page's tests, controlled over its DevTools protocol."""

import base64
import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from websockets.sync.client import ClientConnection, connect

from rig.waiting import eventually

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ANSWER_WITHIN_S = 30.0
PHONE, DESK = (390, 844), (1280, 900)


class Browser:
    """A page in the browser, with the URLs that it requested and the errors that it logged."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._loads = 0
        self.errors: list[str] = []
        self.requested: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **params: Any) -> Any:
        """Send a command, and return its result."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while (message := self._next(ANSWER_WITHIN_S)).get("id") != number:
            pass
        assert "error" not in message, f"{method}: {message['error']}"
        return message["result"]

    def forget(self) -> None:
        """Leave the page, and forget cookies, requests and errors."""
        self.open("about:blank")
        self.command("Network.clearBrowserCookies")
        self.errors.clear()
        self.requested.clear()

    def open(self, url: str) -> None:
        """Open a URL, and wait until it is loaded."""
        before = self._loads
        self.command("Page.navigate", url=url)
        self._wait_for_load(before)

    def press(self, key: str, *, navigates: bool = False) -> None:
        """Press Tab or Enter; if it `navigates`, wait until the next page is loaded."""
        before = self._loads
        code, text = {"Tab": (9, ""), "Enter": (13, "\r")}[key]
        event: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.command("Input.dispatchKeyEvent", type="keyDown", **event, **({"text": text} if text else {}))
        self.command("Input.dispatchKeyEvent", type="keyUp", **event)
        if navigates:
            self._wait_for_load(before)

    def type(self, text: str) -> None:
        """Type into the element that has the focus."""
        self.command("Input.insertText", text=text)

    def type_into(self, selector: str, text: str) -> None:
        """Type into an autofocus element, which gets the focus only after the page is loaded."""
        eventually(
            lambda: bool(self.js(f"document.activeElement.matches({json.dumps(selector)})")), f"{selector} is focused"
        )
        self.type(text)

    def tab_to(self, selector: str) -> None:
        """Press Tab until this element has the focus."""
        for _ in range(60):
            if self.js(f"document.activeElement.matches({json.dumps(selector)})"):
                return
            self.press("Tab")
        raise AssertionError(f"Tab doesn't reach {selector}")

    def js(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.command("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """Return the text of the first element that matches."""
        return str(self.js(f"document.querySelector({json.dumps(selector)}).innerText"))

    def set_screen(self, size: tuple[int, int], *, dark: bool = False) -> None:
        """Set the size of the window, and the preference for dark or light."""
        width, height = size
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        preference = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[preference])

    @contextmanager
    def pictured_on_failure(self, file: Path) -> Iterator[None]:
        """Save a picture of the page if the block fails. A picture takes a second of processor time."""
        try:
            yield
        except AssertionError:
            self.save_screenshot(file)
            raise

    def save_screenshot(self, file: Path) -> None:
        """Save a picture of the whole page."""
        screenshot = self.command("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(screenshot["data"]))

    def _wait_for_load(self, before: int) -> None:
        give_up_at = monotonic() + ANSWER_WITHIN_S
        while self._loads == before:
            self._next(give_up_at - monotonic())

    def _next(self, within_s: float) -> dict[str, Any]:
        """Return the next message; events are recorded."""
        message: dict[str, Any] = json.loads(self._connection.recv(timeout=within_s))
        params = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self._loads += 1
            case "Network.requestWillBeSent":
                self.requested.append(params["request"]["url"])
            case "Runtime.consoleAPICalled":
                self.errors.append(f"console: {params['args']}")
            case "Runtime.exceptionThrown":
                self.errors.append(f"exception: {params['exceptionDetails']}")
            case "Log.entryAdded":
                self.errors.append(f"{params['entry']['level']}: {params['entry']['text']}")
        return message


@contextmanager
def chromium(home: Path) -> Iterator[Browser]:
    """Start a browser with a new profile, and yield its one page."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    process = subprocess.Popen(
        [*command, "--no-first-run", "--disable-background-networking", f"--user-data-dir={home}", "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    port_file = home / "DevToolsActivePort"
    try:
        eventually(lambda: port_file.is_file() and port_file.read_text().count("\n") >= 1, "Chromium listens", 60)
        port, path = port_file.read_text().splitlines()
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=None) as browser:
            browser.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
            targets = json.loads(browser.recv(timeout=ANSWER_WITHIN_S))["result"]["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        with connect(f"ws://127.0.0.1:{port}/devtools/page/{page}", max_size=None) as connection:
            yield Browser(connection)
            connection.send(json.dumps({"id": 0, "method": "Browser.close"}))
            process.wait(20)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
