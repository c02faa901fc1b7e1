"""Takes the pictures of the README from a run of the live demo, in Chromium.

    make pictures                                             # runs the demo, and takes them from it
    python -m tools.live_pictures --url http://127.0.0.1:8700/    # from a demo that runs already

`live-before.png` is the page shortly before all tastes turn, `live-after.png` and `live-phone.png` are the page at the
end of the stream, on a screen and on a phone.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tools.browser import missing_parts, run_script

ROOT: Final = Path(__file__).resolve().parents[1]
MOST_BYTES: Final = 250_000

_SCRIPT: Final = """
const long = { timeout: args.patience * 1000 };
const shoot = async (name, width, last) => {
  await page.setViewportSize({ width, height: 900 });
  await page.evaluate(() => window.scrollTo(0, 0));
  const box = await page.locator(last).boundingBox();
  await page.screenshot({
    path: args.folder + "/" + name + ".png", fullPage: true,
    clip: { x: 0, y: 0, width, height: box.y + box.height + 4 },
  });
};
await page.emulateMedia({ colorScheme: "light" });
await page.goto(args.url);
await page.waitForFunction(() => latest && latest.now_s >= latest.shift_s - 4, undefined, long);
await shoot("live-before", 1000, "#key");
const ended = () => document.getElementById("state").textContent.startsWith("The demo has ended");
await page.waitForFunction(ended, undefined, long);
await shoot("live-after", 1000, "#facts");
await shoot("live-phone", 390, "#facts");
done(true);
"""


@contextmanager
def demo(folder: Path, *, seed: int, seconds: int) -> Iterator[str]:
    """A running demo, and the address of its page.

    Raises:
        SystemExit: It failed; its own error is on stderr.
    """
    command = [sys.executable, "-m", "recdistill", "demo", "--live", "--output", str(folder)]
    command += ["--seed", str(seed), "--seconds", str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        if found is None:
            raise SystemExit(line + process.stderr.read())
        yield found[0]
        if process.wait(120) != 0:
            raise SystemExit(process.stderr.read())
    finally:
        process.terminate()
        process.wait()


def take(url: str, folder: Path, *, patience_s: float) -> list[Path]:
    """Takes the pictures of the demo whose page is there.

    Raises:
        SystemExit: A picture is too large.
    """
    folder.mkdir(parents=True, exist_ok=True)
    args: dict[str, Any] = {"url": url, "folder": str(folder.resolve()), "patience": patience_s}
    run_script(_SCRIPT, timeout_s=2 * patience_s, **args)
    made = sorted(folder.glob("live-*.png"))
    for one in made:
        if (size := one.stat().st_size) > MOST_BYTES:
            raise SystemExit(f"{one}: has {size:,} bytes, more than {MOST_BYTES:,}; make it smaller")
    return made


def main() -> None:
    """Takes the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", help="of the page of a demo that runs already")
    parser.add_argument("--seed", type=int, default=0, help="of the demo (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=450, help="of its stream (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures", help="folder (default: docs/pictures)")
    told = parser.parse_args()
    if (why := missing_parts()) is not None:
        raise SystemExit(f"recdistill: {why}")
    patience_s = told.seconds + 300.0
    if told.url:
        made = take(told.url, told.out, patience_s=patience_s)
    else:
        with (
            tempfile.TemporaryDirectory() as place,
            demo(Path(place) / "demo", seed=told.seed, seconds=told.seconds) as url,
        ):
            made = take(url, told.out, patience_s=patience_s)
    for one in made:
        print(f"{one}: {one.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
