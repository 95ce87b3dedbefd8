"""The console in a real browser: the program's page, driven as people drive it, over a running gateway.

    python3 tests/console/console.py [BINARY]

Everything is on loopback, every wait is bounded, and only processes that this started are ended. Screenshots go to target/console. The last
line is `N passed, N failed`; the exit code is 0 only when nothing failed.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

import scene as scenes
from scene import IMAGE, SCRIPT, Scene

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SHOTS = ROOT / "target" / "console"
VIEWS = ["overview", "decisions", "routes", "identity", "partners", "upstreams", "config"]
WIDE, PHONE = {"width": 1366, "height": 900}, {"width": 390, "height": 844}
MOST_NODES = 5_000
WAIT = 20_000

CHECKS = []


def check(what):
    """Adds a check."""

    def add(function):
        CHECKS.append((what, function))
        return function

    return add


class Browser:
    """A page with what went wrong in it."""

    def __init__(self, browser, scene, viewport=WIDE, scheme="light", more=None):
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme, **(more or {}))
        self.page = self.context.new_page()
        self.page.set_default_timeout(WAIT)
        self.scene, self.wrong = scene, []
        self.page.on("console", lambda message: self.wrong.append(message.text) if message.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        # Nothing may be asked of anybody else.
        self.page.on("request", lambda request: None if request.url.startswith(scene.admin) else self.wrong.append("asks " + request.url))

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        attacked = self.page.evaluate("window.attacked")
        self.context.close()
        if kind is None:
            assert attacked is None, f"an attack has run: {attacked}"
            assert not self.wrong, self.wrong

    def show(self, view, ready="main section, main table, main h2"):
        self.page.goto(f"{self.scene.admin}/#{view}")
        self.page.locator(ready).first.wait_for()
        return self.page

    def holds(self, expression):
        """Waits until an expression is true. The page's own policy keeps Playwright from waiting within it."""
        scenes.until(lambda: self.page.evaluate(expression), expression)

    def fits(self, what):
        wide = self.page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide[0] <= wide[1], f"{what} scrolls sideways: {wide}"
        nodes = self.page.evaluate("document.querySelectorAll('*').length")
        assert nodes <= MOST_NODES, f"{what} has {nodes} nodes"

    def shoot(self, name, whole=True):
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=whole)

    def accessible(self, what):
        found = Axe().run(self.page).response["violations"]
        told = [f"{one['id']}: {one['nodes'][0]['html'][:160]} ({one['nodes'][0].get('failureSummary', '')[:200]})" for one in found]
        assert not told, f"{what}: {told}"


def text(page, selector="main"):
    return page.locator(selector).first.inner_text()


@check("every view loads, says what is so, and has no finding of axe-core, light and dark, wide and narrow")
def every_view(browser, scene):
    wanted = {
        "overview": ["Requests a second", "upstream stock", "the config has", "orders"],
        "decisions": ["scope-missing", "Refused", "Allowed", "no-route"],
        "routes": ["an address of offices", "api.contoso.example", "Report-only", "Anonymous"],
        "identity": ["In use", "gateway"],
        "partners": ["fabrikam", "Switched off", "offices", "integration@fabrikam.example"],
        "upstreams": ["Down", "Connection refused"],
        "config": ["client-secret-in-config", "Taken"],
    }
    for viewport, scheme in [(WIDE, "light"), (WIDE, "dark"), (PHONE, "light"), (PHONE, "dark")]:
        with Browser(browser, scene, viewport, scheme) as own:
            for view in VIEWS:
                page = own.show(view)
                for expected in wanted[view]:
                    page.locator("main").get_by_text(expected).locator("visible=true").first.wait_for()
                name = f"{view}-{viewport['width']}-{scheme}"
                own.fits(name)
                own.accessible(name)
                own.shoot(name)
                assert page.locator("nav a[aria-current=page]").inner_text().lower().startswith(view)


@check("decisions are filtered, opened with steps and lines to paste, and gone through")
def decisions(browser, scene):
    with Browser(browser, scene) as own:
        page = own.show("decisions", "#decisions tbody tr")
        page.get_by_label("Code").fill("caller-address-not-allowed")
        own.holds("[...document.querySelectorAll('#decisions tbody tr')].every(row => row.innerText.includes('caller-address-not-allowed'))")
        assert "code=caller-address-not-allowed" in page.url, page.url
        page.locator("#decisions tbody tr").first.click()
        dialog = page.locator("dialog#record")
        dialog.get_by_text("192.0.2.200 is not among").first.wait_for()
        table = dialog.get_by_role("table")
        table.wait_for()
        said = table.inner_text()
        for expected in ["ip-filter", "Refused", "198.51.100.0/24", "192.0.2.200"]:
            assert expected in said, said
        line = dialog.locator("pre").first.inner_text()
        assert line.startswith(f"entrada explain {scene.config} --record"), line
        dialog.get_by_text("What would turn it").wait_for()
        own.accessible("an opened record")
        own.shoot("record-1366-light", whole=False)
        # The line works as it is pasted.
        records = scene.folder / "records.jsonl"
        command = line.replace("entrada explain", f"{scene.entrada} explain").replace("audit.jsonl", str(records))
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
        assert "caller-address-not-allowed" in done.stdout, (command, done)
        first = page.locator("#record-title").inner_text()
        dialog.get_by_role("button", name="Older").click()
        dialog.get_by_role("table").wait_for()
        assert page.locator("#record-title").inner_text() == first
        page.keyboard.press("Escape")
        own.holds("!document.querySelector('dialog#record').open")
        # A link to a filtered view shows the same to somebody else.
        page.goto(f"{scene.admin}/#decisions?decision=error")
        own.holds("document.querySelector('#filter-decision')?.value === 'error' && document.querySelectorAll('#decisions tbody tr').length > 0 && [...document.querySelectorAll('#decisions tbody tr')].every(row => row.innerText.includes('Failed'))")


@check("a record without a token says what was not judged again")
def without_token(browser, scene):
    with Browser(browser, scene) as own:
        page = own.show("decisions?code=scope-missing", "#decisions tbody tr")
        page.locator("#decisions tbody tr").first.click()
        dialog = page.locator("dialog#record")
        dialog.get_by_text("Not judged again", exact=True).wait_for()
        assert "scopes Orders.List" in dialog.inner_text()
        assert dialog.locator(".hint").count() == 1


@check("new decisions come live, stop while paused, and do not move who reads further down")
def live(browser, scene):
    with Browser(browser, scene) as own:
        page = own.show("decisions", "#decisions tbody tr")
        page.get_by_text("Following live").wait_for()
        scene.ask("api.contoso.example", "/orders/live-one")
        page.locator("#decisions").get_by_text("/orders/live-one").wait_for()
        page.get_by_role("button", name="Live").click()
        page.get_by_text("Paused").wait_for()
        scene.ask("api.contoso.example", "/orders/live-two")
        scenes.until(lambda: b"live-two" in scenes.fetch(scene.admin + "/api/decisions?text=live-two")[1], "the record")
        assert page.locator("#decisions").get_by_text("/orders/live-two").count() == 0
        page.get_by_role("button", name="Live").click()
        page.locator("#decisions").get_by_text("/orders/live-two").wait_for()
        page.get_by_text("Following live").wait_for()
        page.evaluate("scrollTo(0, 600)")
        before = page.evaluate("scrollY")
        scene.ask("api.contoso.example", "/orders/live-three")
        page.get_by_role("button", name="Show 1 new").wait_for()
        assert page.evaluate("scrollY") == before
        page.get_by_role("button", name="Show 1 new").click()
        page.locator("#decisions").get_by_text("/orders/live-three").wait_for()
        own.fits("decisions")


@check("what callers send is shown and never run")
def attacks(browser, scene):
    with Browser(browser, scene) as own:
        page = own.show("decisions?decision=allow&text=attacked%3D1", "#decisions tbody tr")
        page.locator("#decisions tbody tr").first.click()
        dialog = page.locator("dialog#record")
        dialog.get_by_text(IMAGE).first.wait_for()
        dialog.get_by_text(SCRIPT).first.wait_for()
        page.keyboard.press("Escape")
        # The address of the page itself is what somebody else may have written.
        for view in [f"decisions?text={IMAGE}&route={SCRIPT}", f"routes?text={SCRIPT}&order={IMAGE}", IMAGE, "config?__proto__=1"]:
            page.goto("about:blank")
            own.show(view)
        for script in page.evaluate("[...document.scripts].map(script => script.src)"):
            assert script == f"{scene.admin}/app.js", script


@check("the keyboard alone reaches, opens and closes everything, with a focus that can be seen")
def keyboard(browser, scene):
    with Browser(browser, scene) as own:
        page = own.show("overview")
        focused = "document.activeElement.innerText ?? ''"
        page.keyboard.press("Tab")
        assert page.evaluate(focused) == "Skip to the content"
        for _ in range(2):
            page.keyboard.press("Tab")
        assert page.evaluate(focused) == "Decisions", page.evaluate(focused)
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", outline
        page.keyboard.press("Enter")
        page.locator("#decisions tbody tr").first.wait_for()
        own.holds("document.activeElement.id === 'view'")
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.closest('#decisions') !== null"):
                break
        page.keyboard.press("Enter")
        own.holds("document.querySelector('dialog#record').open")
        page.locator("dialog#record h3", has_text="Why").wait_for()
        assert page.evaluate("document.activeElement.closest('dialog') !== null"), "the focus is not in the dialog"
        page.keyboard.press("Escape")
        own.holds("!document.querySelector('dialog#record').open")
        assert page.evaluate("document.activeElement.closest('#decisions') !== null"), "the focus is lost"
        # The chart says its values to those who cannot see it.
        page = own.show("overview", "svg[role=slider]")
        page.locator("svg[role=slider]").focus()
        own.holds("document.querySelectorAll('svg polygon').length === 3")
        page.keyboard.press("ArrowLeft")
        assert re.search(r"\d+:\d+:\d+: .* allowed", page.locator("svg[role=slider]").get_attribute("aria-valuetext"))


@check("a reader's search, focus and place outlive the refreshes")
def refreshes(browser, scene):
    with Browser(browser, scene) as own:
        page = own.show("routes", "#routes tbody tr")
        page.get_by_label("Search names").fill("stock")
        own.holds("document.querySelectorAll('#routes tbody tr').length === 1")
        answered = page.wait_for_event("response", lambda answer: "/api/routes" in answer.url)
        assert answered.ok
        own.holds("document.querySelectorAll('#routes tbody tr').length === 1")
        assert page.evaluate("document.activeElement.id") == "route-text"
        assert page.get_by_label("Search names").input_value() == "stock"


@check("a gateway that stops answering is said to, and comes back by itself")
def outage(browser, scene):
    with Browser(browser, scene) as own:
        page = own.show("overview")
        page.route("**/api/**", lambda route: route.abort())
        page.get_by_text("No answer").wait_for()
        page.unroute("**/api/**")
        page.locator("#state").get_by_text("Ready").wait_for()
        own.wrong = [wrong for wrong in own.wrong if "Failed to load resource" not in wrong]


@check("2,000 routes: searched, put in order and paged without a stall, within 5,000 nodes")
def many(browser, scene):
    scene.reload(2_000)
    with Browser(browser, scene) as own:
        page = own.show("routes", "#routes tbody tr")
        page.get_by_text("2,003 routes").wait_for()
        own.fits("routes")
        own.shoot("routes-2000-1366-light")
        begun = time.monotonic()
        page.get_by_label("Search names").fill("apis/1234")
        own.holds("document.querySelectorAll('#routes tbody tr').length === 1 && document.querySelector('#routes').innerText.includes('team-1234')")
        took = time.monotonic() - begun
        assert took < 3, f"a search took {took:.1f} s"
        page.get_by_label("Search names").fill("")
        page.get_by_text("1 to 50 of 2,003").wait_for()
        page.get_by_role("button", name="Next").click()
        page.get_by_text("51 to 100 of 2,003").wait_for()
        page.get_by_label("Order").select_option("refused")
        page.get_by_text("1 to 50 of 2,003").wait_for()
        assert page.locator("#routes tbody tr th").first.inner_text().startswith("orders")
        # No task of the page holds up input for long, while the view refreshes with all routes there.
        longest = page.evaluate("""() => new Promise(resolve => {
            let longest = 0
            new PerformanceObserver(list => { for (const entry of list.getEntries()) longest = Math.max(longest, entry.duration) }).observe({ type: 'longtask', buffered: true })
            setTimeout(() => resolve(longest), 6000)
        })""")
        assert longest < 500, f"a task took {longest} ms"
        own.accessible("2,000 routes")
        for view in VIEWS:
            own.show(view)
            own.fits(view)
    with Browser(browser, scene, PHONE, "dark") as own:
        own.show("routes", "#routes tbody tr")
        own.fits("routes on a phone")
        own.shoot("routes-2000-390-dark", whole=False)


@check("behind a token policy the page asks for a token, says why one is refused, and works with a good one")
def token(browser, scene):
    scene.reload(0, ", validate-azure-ad-token: { tenant: contoso, audiences: [api://orders, 33334444-dddd-5555-eeee-6666ffff7777], scopes: [Orders.Read] }")
    assert scenes.fetch(scene.admin + "/api/overview")[0] == 401
    with Browser(browser, scene) as own:
        own.page.goto(scene.admin + "/#decisions")
        dialog = own.page.locator("dialog#token")
        dialog.get_by_text("asks for a token").wait_for()
        own.accessible("the question for a token")
        own.shoot("token-1366-light", whole=False)
        dialog.get_by_label("Access token").fill(scene.token(user="otto", audience="api://orders", scopes=["Orders.List"]))
        dialog.get_by_role("button", name="Use this token").click()
        dialog.get_by_text("scope-missing").wait_for()
        dialog.get_by_label("Access token").fill("Bearer " + scene.token(user="nia", audience="api://orders", scopes=["Orders.Read"]))
        dialog.get_by_role("button", name="Use this token").click()
        own.page.locator("#state").get_by_text("Ready").wait_for()
        own.page.locator("#decisions tbody tr").first.wait_for()
        own.page.get_by_text("Following live").wait_for()
        scene.ask("api.contoso.example", "/orders/with-a-token")
        own.page.locator("#decisions").get_by_text("/orders/with-a-token").wait_for()
        # It is nowhere that outlives the page.
        kept = own.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie.length]")
        assert kept == [0, 0, 0], kept
        own.wrong = [wrong for wrong in own.wrong if "status of 40" not in wrong]


def main():
    entrada = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("ENTRADA", ROOT / "target/release/entrada")).resolve()
    chromium = next(filter(None, map(shutil.which, ["chromium-headless-shell", "chromium"])), None)
    if not entrada.exists() or not chromium:
        sys.exit(f"missing: {entrada if not entrada.exists() else 'chromium'}")
    SHOTS.mkdir(parents=True, exist_ok=True)
    passed, failed, began = 0, 0, time.monotonic()
    folder = tempfile.mkdtemp(prefix="entrada-console-")
    scene = Scene(entrada, folder)
    try:
        statuses = scene.traffic(3)
        assert {200, 401, 403, 404} <= set(statuses), statuses
        scenes.until(lambda: json.loads(scenes.fetch(scene.admin + "/api/overview")[1])["history"]["samples"][1:], "two samples")
        with sync_playwright() as playwright:
            # A container's user has no name space of its own for the sandbox; the pages are the program's own.
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for what, run in CHECKS:
                begun = time.monotonic()
                try:
                    run(browser, scene)
                    passed += 1
                    print(f"ok      {time.monotonic() - begun:5.1f} s  {what}", flush=True)
                except Exception:
                    failed += 1
                    print(f"FAILED  {time.monotonic() - begun:5.1f} s  {what}\n{traceback.format_exc()}", flush=True)
            browser.close()
    finally:
        scene.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"screenshots: {SHOTS}; {time.monotonic() - began:.0f} s")
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
