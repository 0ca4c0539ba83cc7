"""The endpoint refuses what would show metrics to anybody; rules, dashboard and documentation name what exists."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics_core import METRIC_TYPES

from etl_resources.errors import SettingsError
from etl_resources.observe.endpoint import Endpoint
from etl_resources.observe.families import FAMILIES

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations"
EXPOSED = {f.exposed for f in FAMILIES}
LABELS = {label for f in FAMILIES for label in f.labels}


def rules() -> list[dict[str, Any]]:
    """The example's alerting rules."""
    (group,) = yaml.safe_load((OPERATIONS / "alerts.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def dashboard() -> list[str]:
    """Expressions of all panels and variables of the example's dashboard."""
    read = json.loads((OPERATIONS / "dashboard.json").read_text())
    queries = [v["query"] for v in read["templating"]["list"] if v["type"] == "query"]
    return [t["expr"] for p in read["panels"] for t in p["targets"]] + queries


def test_every_rule_has_what_prometheus_wants() -> None:
    """A rule file that doesn't load alerts nobody."""
    names = [r["alert"] for r in rules()]
    assert len(names) == len(set(names)) > 5
    for rule in rules():
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert rule["annotations"].keys() == {"summary", "description"}
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["expr"].count("(") == rule["expr"].count(")")
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "1m"))


def test_rules_and_dashboard_ask_for_metrics_that_exist() -> None:
    """A renamed metric would silence its alert."""
    for expression in [*(r["expr"] for r in rules()), *dashboard()]:
        named = set(re.findall(r"\betl_\w+", expression))
        assert named, expression
        assert named <= EXPOSED, expression
        asked = set(re.findall(r"(\w+)\s*(?:=~|!=|=)\s*\"", expression))
        asked |= {w for names in re.findall(r"(?:by|on) \(([^)]*)\)", expression) for w in re.findall(r"\w+", names)}
        assert asked <= LABELS, expression


def test_every_family_is_documented() -> None:
    """With its label and its meaning, as the endpoint tells it."""
    text = (OPERATIONS / "metrics.md").read_text()
    for f in FAMILIES:
        label = f"`{f.label}`" if f.label else ""
        assert f"| `{f.exposed}` | {label} | {f.help} |" in text


def test_families_follow_the_conventions() -> None:
    """Base units, counters end in total, and one name is one family."""
    assert len({f.name for f in FAMILIES}) == len(FAMILIES)
    for f in FAMILIES:
        assert f.kind in METRIC_TYPES
        assert re.fullmatch(r"etl_[a-z_]+[a-z]", f.name)
        assert not f.name.endswith("_total")
        assert not re.search(r"_(ms|minutes|hours|kb|mb)\b", f.name)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost", "127.5.0.1"])
def test_loopback_needs_no_token(address: str) -> None:
    """As any exporter."""
    Endpoint(address).prove_safe()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give --token-file"),
        ({"token_file": "token"}, "give --tls-cert and --tls-key, or --plain"),
        ({"token_file": "short", "plain": True}, "holds no token of 16 characters"),
        ({"token_file": "missing", "plain": True}, "can't be read"),
        ({"token_file": "token", "certificate": "cert.pem"}, "belong together"),
        ({"plain": True}, "give --token-file"),
    ],
)
@pytest.mark.parametrize("address", ["192.0.2.7", "::", "etl.example.com"])
def test_elsewhere_it_does(address: str, given: dict[str, Any], message: str, tmp_path: Path) -> None:
    """No way to serve it to everybody by accident."""
    (tmp_path / "token").write_text("0123456789abcdef")
    (tmp_path / "short").write_text("secret")
    paths = {k: tmp_path / v if isinstance(v, str) else v for k, v in given.items()}
    with pytest.raises(SettingsError, match=re.escape(message)):
        Endpoint(address, **paths).prove_safe()


def test_with_a_token_and_tls_it_may_be_reached(tmp_path: Path) -> None:
    """Or where something else encrypts."""
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    Endpoint("192.0.2.7", token_file=token, certificate=token, key=token).prove_safe()
    Endpoint("192.0.2.7", token_file=token, plain=True).prove_safe()
    assert Endpoint("::", 80).url == "http://[::]:80/metrics"
