"""The dashboard in headless Chromium, in front of the real service: what people see, press, and cannot be made to."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from gelert.evals.benches import load_labelled
from gelert.serve.engine import Limits
from tests.serve.dashboard.conftest import Open
from tests.serve.dashboard.scene import FORCE, INSTALL, ISSUES, POLICY, SceneGuard, play
from tests.serve.dashboard.support import HOSTILE, SECRET, XSS, application, judge, listening
from tests.serve.scripted_guard import Mood, ScriptedGuard
from tests.serve.support import CALM, MARKED, TOKEN

pytestmark = pytest.mark.browser

SCHEMES = ("light", "dark")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    """Of a service whose guard knows the mark."""
    with listening(application(tmp_path)) as found:
        yield found


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[httpx.Client]:
    """Of a service that asks people."""
    with listening(application(tmp_path, SceneGuard(), POLICY)) as found:
        yield found


def test_hostile_texts_are_shown_and_nothing_in_them_runs(client: httpx.Client, opened: Open) -> None:
    judge(client, HOSTILE, runtime=XSS[:40], session=XSS, project=XSS)
    here = opened(str(client.base_url))
    here.choose("curl")
    steps = here.page.locator(".steps")
    expect(steps).to_contain_text(XSS)
    for name in ("U+202E", "U+200B \N{MULTIPLICATION SIGN}3", "U+E0041", "U+001B"):
        expect(steps.locator(".odd", has_text=name).first).to_be_visible()
    assert here.page.locator("main img, main script, main [onload], main [onerror]").count() == 0
    assert here.page.title() == "Gelert"
    assert SECRET not in here.page.content()


def test_the_token_is_in_no_address_no_storage_and_no_cookie(client: httpx.Client, opened: Open) -> None:
    judge(client, CALM)
    page = opened(str(client.base_url)).page
    page.locator(".row").wait_for()
    assert TOKEN not in page.url
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie, history.length]") == [
        0,
        0,
        "",
        2,
    ]
    page.reload()
    expect(page.get_by_role("textbox", name="Token")).to_be_focused()
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator(".row")).to_have_count(1)


def test_a_wrong_token_is_asked_for_again(client: httpx.Client, opened: Open) -> None:
    page = opened(str(client.base_url), token="wrong" * 8).page
    expect(page.get_by_role("alert").filter(has_text="does not know this token")).to_be_visible()
    expect(page.locator("main")).to_be_hidden()
    page.keyboard.type("tökèn")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="plain letters")).to_be_visible()


def test_decisions_appear_while_one_looks_and_the_bad_ones_are_spoken(client: httpx.Client, opened: Open) -> None:
    page = opened(str(client.base_url)).page
    expect(page.get_by_text("No decision yet")).to_be_visible()
    judge(client, CALM, runtime="codex")
    expect(page.locator("#list").get_by_role("option")).to_have_count(1)
    judge(client, MARKED, runtime="codex")
    expect(page.locator("#list").get_by_role("option").first).to_contain_text("Blocked")
    expect(page.locator("#spoken")).to_have_text("Blocked: Reply, codex")


def test_an_approval_is_answered_by_two_presses_and_holds(scene: httpx.Client, opened: Open) -> None:
    page = opened(str(scene.base_url)).page
    for run, key, said, then in ((FORCE, "a", "git push --force", "allow"), (INSTALL, "b", "pip install", "block")):
        assert judge(scene, run, project="/home/ada")["decision"] == "ask"
        card = page.locator(".approval", has_text=said)
        expect(card).to_be_visible()
        expect(page).to_have_title("(1) Gelert")
        page.locator("#list").focus()
        page.keyboard.press(key)
        expect(card).to_be_focused()
        expect(card).to_be_visible()
        page.keyboard.press(key)
        expect(card).to_have_count(0)
        assert judge(scene, run, project="/home/ada")["decision"] == then


def test_an_answer_is_remembered_and_forgotten(scene: httpx.Client, opened: Open) -> None:
    page = opened(str(scene.base_url)).page
    judge(scene, FORCE)
    page.get_by_label("Each time this same call comes").check()
    page.get_by_role("button", name="Allow", exact=True).click()
    page.get_by_text("1 remembered answer").click()
    assert [judge(scene, FORCE)["decision"] for _ in range(2)] == ["allow", "allow"]
    page.get_by_role("button", name="Forget").click()
    expect(page.locator("#approvals")).to_be_hidden()
    assert judge(scene, FORCE)["decision"] == "ask"


def test_a_run_is_labelled_by_keys_exported_and_read_as_training_data(
    scene: httpx.Client, opened: Open, tmp_path: Path
) -> None:
    judge(scene, ISSUES)
    here = opened(str(scene.base_url))
    page = here.page
    here.choose("curl")
    page.keyboard.press("l")
    page.keyboard.press("ArrowRight")
    page.get_by_label("Why").fill("posts secrets")
    page.get_by_role("button", name="Save the label").press("Enter")
    expect(page.get_by_role("heading", name="Labelled")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export labels").click()
    file = tmp_path / "export" / download.value.suggested_filename
    download.value.save_as(file)
    (one,) = load_labelled([file]).labelled
    assert (one.unsafe, one.gold.reason, len(one.example.trajectory.steps)) == (True, "posts secrets", len(ISSUES))
    page.get_by_role("button", name="Take it back").click()
    expect(page.get_by_role("heading", name="Label this run")).to_be_visible()
    assert scene.get("/v1/labels").content == b""


def test_what_does_not_work_is_said_and_stays_said(scene: httpx.Client, opened: Open, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("in the way")
    judge(scene, ISSUES)
    here = opened(str(scene.base_url))
    here.choose("curl")
    here.page.get_by_label("Unsafe", exact=True).check()
    here.page.get_by_role("button", name="Save the label").click()
    failed = here.page.get_by_role("alert").filter(has_text="expected a place for the label")
    expect(failed).to_be_visible()
    judge(scene, CALM)
    expect(here.page.locator(".row")).to_have_count(2)
    expect(failed).to_be_visible()


def test_everything_is_reached_by_keys(scene: httpx.Client, opened: Open) -> None:
    for run in (CALM, ISSUES, CALM):
        judge(scene, run)
    page = opened(str(scene.base_url)).page
    chosen = page.locator(".row[aria-selected=true]")
    page.locator(".row").first.wait_for()
    for keys, expected in (("j", 3), ("jj", 1), ("k", 2)):
        for key in keys:
            page.keyboard.press(key)
        expect(chosen).to_have_attribute("id", f"d-{expected}")
    expect(page.locator("#list")).to_have_attribute("aria-activedescendant", "d-2")
    expect(page.locator(".steps")).to_contain_text("secrets.env")
    page.keyboard.press("Enter")
    expect(page.locator("#detail")).to_be_focused()
    for place in (3, 4, 3):
        page.keyboard.press("e")
        expect(page.locator(f"#s-{place}")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#list")).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("/")
    page.keyboard.type("secrets ask jb")
    expect(page.get_by_text("Nothing fits")).to_be_visible()
    page.get_by_role("button", name="Clear the filters").press("Enter")
    expect(page.locator(".row")).to_have_count(3)


def test_filters_cut_the_list_and_say_how_much_is_left(scene: httpx.Client, opened: Open) -> None:
    play(scene)
    page = opened(str(scene.base_url)).page
    count = page.locator("#count")
    expect(count).to_have_text("39 decisions")
    page.get_by_label("Only without a verdict").check()
    expect(count).to_have_text("1 of 39")
    page.get_by_label("Only without a verdict").uncheck()
    page.locator("label", has_text="Asked").click()
    expect(page.locator(".row")).to_have_count(2)
    page.get_by_label("Runtime").select_option("codex")
    expect(page.locator(".row")).to_have_count(1)
    page.get_by_label("Surface").select_option("reply")
    expect(page.get_by_text("Nothing fits")).to_be_visible()


def test_five_thousand_decisions_are_as_quick_as_ten_and_stay_where_one_reads(
    client: httpx.Client, opened: Open
) -> None:
    texts = {"input": ["x"] * 32}
    for _ in range(5_000 // 32 + 1):
        assert client.post("/v1/moderations", json=texts).status_code == 200
    page = opened(str(client.base_url)).page
    expect(page.locator("#count")).to_have_text("5,000 decisions")
    assert page.locator(".row").count() < 60
    page.locator("#list").focus()
    page.keyboard.press("End")
    oldest = page.locator(".row[aria-selected=true]")
    expect(oldest).to_have_attribute("aria-posinset", "5000")
    expect(oldest).to_be_in_viewport()
    page.locator("#list").evaluate("list => { list.scrollTop = 9000; }")
    expect(page.locator(".row").first).to_have_attribute("aria-posinset", re.compile("^1[0-9]{2}$"))
    row = page.locator(".row").nth(12)
    name, before = row.get_attribute("id"), row.bounding_box()
    client.post("/v1/moderations", json=texts)
    expect(page.get_by_role("button", name="32 new")).to_be_visible()
    assert page.locator(f"#{name}").bounding_box() == before


def test_a_guard_that_hangs_and_a_service_that_is_gone_are_said(opened: Open, tmp_path: Path) -> None:
    guard = ScriptedGuard(Mood.HANGS)
    with listening(application(tmp_path / "one", guard, limits=Limits(deadline_seconds=0.5))) as client:
        here = opened(str(client.base_url))
        notice = here.page.locator("#notice")
        judge(client, CALM)
        expect(notice).to_contain_text("No sound decision can be given now")
        expect(here.page.locator("#list").get_by_role("option").first).to_contain_text("no verdict")
        here.page.keyboard.press("j")
        expect(here.page.locator(".why")).to_contain_text("No verdict stands behind this decision")
        guard.release.set()
        port = client.base_url.port
    expect(notice).to_contain_text("The service does not answer", timeout=15_000)
    with listening(application(tmp_path / "two"), port or 0) as client:
        judge(client, MARKED)
        expect(here.page.locator("#list").get_by_role("option")).to_have_count(1, timeout=30_000)
        expect(here.page.locator("#list").get_by_role("option")).to_contain_text("UNSAFE-MARK")
        expect(notice).to_be_hidden()


@pytest.mark.parametrize("width", [360, 1600])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_fits_narrow_and_wide_windows(
    client: httpx.Client, opened: Open, tmp_path: Path, width: int, scheme: str
) -> None:
    judge(client, HOSTILE, project="/home/" + "x" * 300, session="s" * 150)
    here = opened(str(client.base_url), width=width, color_scheme=scheme)
    here.page.locator(".row").wait_for()
    here.page.screenshot(path=tmp_path / "list.png")
    here.choose("curl")
    here.page.screenshot(path=tmp_path / "detail.png")
    for name in ("html", "#list", "#detail"):
        box = here.page.locator(name).evaluate("element => [element.scrollWidth, element.clientWidth]")
        assert box[0] <= box[1], name
    back = here.page.get_by_role("button", name="Decisions")
    assert back.is_visible() == (width == 360)
    if width == 360:
        back.click()
        expect(here.page.locator("#list")).to_be_focused()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_tone_is_read_well_on_its_ground(scene: httpx.Client, opened: Open, tmp_path: Path, scheme: str) -> None:
    play(scene)
    here = opened(str(scene.base_url), height=1240, width=1440, color_scheme=scheme)
    here.choose("curl")
    here.page.wait_for_timeout(2_000)
    here.page.screenshot(path=tmp_path / f"dashboard-{scheme}.png")
    pairs = [
        ("ink", "ground"),
        ("ink", "paper"),
        ("ink", "sunk"),
        ("soft", "ground"),
        ("soft", "paper"),
        ("soft", "sunk"),
    ]
    pairs += [(tone, f"{tone}-ground") for tone in ("allow", "ask", "block", "odd")]
    pairs += [("on-accent", "accent"), ("ink", "block-ground"), ("soft", "block-ground"), ("soft", "ask-ground")]
    style = "getComputedStyle(document.documentElement)"
    for tone, ground in pairs:
        found = [str(here.page.evaluate(f"{style}.getPropertyValue('--{name}')")) for name in (tone, ground)]
        assert _contrast(*found) >= 4.5, (tone, ground)
    dark = here.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark == {"light": "rgb(244, 243, 239)", "dark": "rgb(19, 20, 22)"}[scheme]


def test_nothing_moves_for_whoever_asked_for_that(client: httpx.Client, opened: Open) -> None:
    page = opened(str(client.base_url), reduced_motion="reduce").page
    expect(page.get_by_text("No decision yet")).to_be_visible()
    judge(client, MARKED)
    expect(page.locator(".row.fresh")).to_have_css("animation-name", "none")


def _contrast(one: str, other: str) -> float:
    """Of two colours, as WCAG 2.2 defines it."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    digits = colour.strip().removeprefix("#")
    digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
    shares = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
