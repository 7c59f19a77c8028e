"""The pictures of the page in docs/: from embedded scenes alone, by a real browser; needs `make archive-demo` first.

python benchmarks/serve_pictures.py runs/archive_demo docs     writes docs/serve_search.jpg and docs/serve_detail.jpg
"""

from __future__ import annotations

import logging
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

MODEL = "runs/quickstart/checkpoints/best.ckpt"
SEEN = 3_100_000  # scenes whose captions the bank is of; none of the mosaic's
CAPTIONS = 500
SEARCH = "text=two+blue+planes+beside+a+runway&not=a+harbour"
WIDTH, HEIGHT = 1400, 860
SOFTWARE = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # WebGL without a GPU
log = logging.getLogger("serve_pictures")


def prepared(folder: Path) -> Path:
    """An archive of the mosaic by the quickstart's model with a bank of captions, so that the page knows z."""
    from rsretrieval import cli
    from rsretrieval.data.datasets.synthetic.scenes import sample_scene

    banked = folder / "banked"
    if not (banked / "archive" / "index").exists():
        banked.mkdir(exist_ok=True)
        captions = banked / "captions.txt"
        captions.write_text("".join(f"{sample_scene(SEEN + number).captions[0]}\n" for number in range(CAPTIONS)))
        cli.main(["bank", MODEL, f"--captions={captions}", f"--to={banked / 'model'}"])
        cli.main(["embed", str(banked / "model"), str(folder / "mosaic.tif"), f"--to={banked / 'archive'}"])
        cli.main(["index", str(banked / "archive")])
    return banked / "archive"


def served(archive: Path, port: int) -> subprocess.Popen[bytes]:
    """A server of an archive, once it answers."""
    command = [sys.executable, "-m", "rsretrieval", "serve", str(archive), f"--port={port}", "--title=Embedded scenes"]
    server = subprocess.Popen(command)
    while server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health").close()
        except OSError:
            time.sleep(0.5)
        else:
            return server
    sys.exit("the server does not start")


def take(page: Any, address: str, to: Path) -> None:  # noqa: ANN401 - of playwright
    """A picture of the results, one of the fifth of them."""
    page.set_default_timeout(180_000)  # milliseconds, for a busy machine
    page.goto(f"{address}/?{SEARCH}")
    page.wait_for_selector(".card:nth-child(20)")
    page.wait_for_load_state("networkidle")
    page.locator(".card").nth(4).hover()
    page.wait_for_timeout(1500)  # the map's way to the results
    page.screenshot(path=to / "serve_search.jpg", type="jpeg", quality=72)
    page.locator(".card .open").nth(4).click()
    page.wait_for_selector("dialog .over:visible")
    page.locator("dialog summary").click()
    page.wait_for_selector(".surroundings img")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)
    page.screenshot(path=to / "serve_detail.jpg", type="jpeg", quality=72)


def main(folder: Path, to: Path) -> None:
    """Serve, look and end."""
    from playwright.sync_api import sync_playwright

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = served(prepared(folder), port)
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=SOFTWARE)
            take(browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}), f"http://127.0.0.1:{port}", to)
            browser.close()
    finally:
        server.terminate()
        server.wait()
    for name in ("serve_search.jpg", "serve_detail.jpg"):
        log.info("%s: %d bytes", to / name, (to / name).stat().st_size)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
