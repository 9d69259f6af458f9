"""The documents hold together: links lead somewhere, the README stays short, and `deploy/` sets settings that exist."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from rig.paths import PROJECT

DOCUMENTS = [
    PROJECT / name
    for name in subprocess.check_output(["git", "ls-files", "*.md"], cwd=PROJECT, text=True).split()
    if (PROJECT / name).exists()
]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)#?([^)\s]*)\)")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
SETTING = re.compile(r"\b((?:KEYSTORE|TELEGRAM)_[A-Z_]+)\b")
README_LINES = 115


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", document.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(PROJECT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    for path, anchor in LINK.findall(FENCED.sub("", document.read_text(encoding="utf-8"))):
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{path} doesn't exist"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{path} has no heading #{anchor}"


def test_the_readme_is_short() -> None:
    assert len((PROJECT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


def test_compose_sets_settings_and_mounts_files_that_exist() -> None:
    text = (PROJECT / "deploy" / "compose.yaml").read_text(encoding="utf-8")
    known = set(SETTING.findall((PROJECT / ".env.example").read_text(encoding="utf-8")))
    assert set(SETTING.findall(text)) <= known
    compose = yaml.safe_load(text)
    keystore = compose["services"]["keystore"]
    assert (PROJECT / "deploy" / keystore["build"]["context"] / keystore["build"]["dockerfile"]).is_file()
    assert (PROJECT / "deploy" / compose["configs"]["grafana-board"]["file"]).is_file()
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_scrape_configuration_is_the_same_with_and_without_containers() -> None:
    deploy = PROJECT / "deploy"
    by_hand = yaml.safe_load((deploy / "prometheus.yml").read_text(encoding="utf-8"))
    compose = yaml.safe_load((deploy / "compose.yaml").read_text(encoding="utf-8"))
    contained = yaml.safe_load(compose["configs"]["prometheus"]["content"])
    for config in (by_hand, contained):
        del config["scrape_configs"][0]["static_configs"]
    assert by_hand == contained
