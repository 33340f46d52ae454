import subprocess
import sys

import pytest

from dosimeter.core.errors import InputError
from dosimeter.core.method import Attack, Defense, Method
from dosimeter.core.registry import Entry, catalogue, find, load

METHODS = '''
from typing import ClassVar
from dosimeter.core.access import Needs
from dosimeter.core.card import Card
from dosimeter.core.method import Defense

class {name}(Defense):
    """Of another package."""
    card: ClassVar[Card] = Card(slug="{slug}", kind="defense", title="T", purpose="P", threat_model="M",
                                needs=Needs(modalities=("text",), returns=("label",)))
'''


@pytest.fixture
def plugin(install, tmp_path):
    """``plugin(package, {slug: source})`` installs a package whose modules have that source; ``Made`` is the method."""

    def make(package, sources):
        points = {}
        for number, (slug, source) in enumerate(sources.items()):
            module = f"{package.replace('-', '_')}_methods_{number}"
            (tmp_path / f"{module}.py").write_text(source)
            points[slug] = f"{module}:Made"
        install(package, points, tmp_path)

    return make


def test_our_methods_are_listed_with_their_cards():
    ours = {entry.name: entry for entry in catalogue() if entry.package == "dosimeter"}
    assert {"encoder-inference", "jpeg-inputs", "character-flips"} <= set(ours)
    entry = ours["character-flips"]
    assert isinstance(entry, Entry)
    assert (entry.kind, entry.card["needs"]["modalities"]) == ("defense", ["text"])
    assert [parameter["name"] for parameter in entry.hyperparameters] == ["rate", "alphabet"]


def test_every_listed_method_of_ours_loads_under_its_slug():
    for entry in catalogue():
        if entry.package == "dosimeter":
            method = load(entry.name)
            assert issubclass(method, Method)
            assert issubclass(method, {"attack": Attack, "defense": Defense}.get(entry.kind, Method))
            assert method.card.slug == entry.name
            assert method.__doc__


def test_listing_imports_no_method_and_no_framework():
    code = (
        "import sys; from dosimeter.core.registry import catalogue, find; catalogue(); find('encoder-inference');"
        "heavy = [name for name in ('torch', 'numpy', 'pydantic', 'dosimeter.attacks') if name in sys.modules];"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "encoder-inferense",
            r"no method 'encoder-inferense'\. Did you mean encoder-inference or encoder-stealing\?",
        ),
        ("jpeg-input", r"Did you mean jpeg-inputs"),
        ("zzz", r"no method 'zzz'\. 'dosimeter list' shows what there is\."),
        ("another/jpeg-inputs", r"no method 'another/jpeg-inputs'\. Did you mean jpeg-inputs\?"),
        ("", r"no method ''"),
    ],
)
def test_an_unknown_name_gets_the_nearest_ones(name, message):
    with pytest.raises(InputError, match=message):
        load(name)


def test_ours_can_be_named_in_full():
    assert load("dosimeter/jpeg-inputs") is load("jpeg-inputs")


def test_a_plugin_is_listed_without_being_imported_and_found_by_both_names(plugin):
    plugin("acme-privacy", {"round-answers": METHODS.format(name="Made", slug="round-answers")})
    entry = next(entry for entry in catalogue() if entry.package == "acme-privacy")
    assert (entry.name, entry.kind, entry.card) == ("acme-privacy/round-answers", "plug-in", {})
    assert "acme_privacy_methods_0" not in sys.modules
    assert find("round-answers")[0] == "acme-privacy"
    assert load("round-answers") is load("acme-privacy/round-answers")
    assert load("round-answers").card.slug == "round-answers"


def test_our_name_is_ours_and_a_plugin_of_the_same_name_needs_its_package(plugin):
    plugin("acme", {"jpeg-inputs": METHODS.format(name="Made", slug="jpeg-inputs")})
    assert load("jpeg-inputs").__module__ == "dosimeter.defenses.inputs"
    assert load("acme/jpeg-inputs").__module__ == "acme_methods_0"


def test_a_name_in_two_packages_is_ambiguous(plugin):
    plugin("acme", {"blur": METHODS.format(name="Made", slug="blur")})
    plugin("bits", {"blur": METHODS.format(name="Made", slug="blur")})
    with pytest.raises(
        InputError, match=r"'blur' is in several packages; say which: (acme/blur, bits|bits/blur, acme)/"
    ):
        load("blur")
    assert load("bits/blur").__module__ == "bits_methods_0"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_module", r"does not load: ModuleNotFoundError: No module named 'no_such_module'"),
        ("Made = 1 / 0", "does not load: ZeroDivisionError"),
        ("Other = 1", "does not load: AttributeError"),
        ("def Made(): ...", "is no method: it must be a subclass of Attack or Defense"),
        ("class Made: ...", "is no method: it must be a subclass of Attack or Defense"),
    ],
)
def test_a_broken_plugin_is_named(plugin, source, message):
    plugin("acme", {"broken": source})
    with pytest.raises(InputError, match=rf"plug-in 'acme/broken' \(acme_methods_0:Made\) {message}"):
        load("broken")
