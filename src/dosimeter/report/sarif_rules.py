"""The rules of a SARIF file: one per line of the policy and per attack, with standard tags and their taxonomies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from dosimeter.core.taxonomies import Tag, Taxonomy
from dosimeter.report.cards import cards, tags_of
from dosimeter.report.checks import STUDY_RULE, Check
from dosimeter.report.markdown import code, escaped, one_line, shortened

#: Code scanning refuses rules with more tags, and runs with more than 25,000 rules; no more are kept than results.
MOST_TAGS = 20
MOST_RULES = 5_000
_MOST_DESCRIPTION = 1_000
_MOST_NAME = 200
_MOST_HELP = 8_000
#: Shown by code scanning as a high severity. Not a CVSS score: the owner's own limit is passed, whatever it is.
_SEVERITY = "7.0"
_PLACEHOLDER = re.compile(r"\{(\d+)\}")


def message(text: str, most: int) -> str:
    """``text`` as a SARIF message of one line: without what would be read as a link or a placeholder."""
    return shortened(_PLACEHOLDER.sub(r"(\1)", one_line(text).replace("](", "] (")), most)


class Rules:
    """The rules behind ``all_checks``; those ``needed`` by results first where there are more than a run may have."""

    def __init__(self, all_checks: Sequence[Check], needed: Sequence[str]) -> None:
        known: dict[str, Check] = {}
        for check in all_checks:
            known.setdefault(check.rule, check)
        names = list(known)
        if len(names) > MOST_RULES:
            first = dict.fromkeys(needed)
            names = [*first, *(name for name in names if name not in first)][:MOST_RULES]
        self._checks = {name: known[name] for name in names}
        self._index = {name: number for number, name in enumerate(self._checks)}
        self._tags = {name: self._tags_of(check) for name, check in self._checks.items()}
        self._taxa: dict[Taxonomy, dict[Tag, int]] = {}
        for tag in (tag for tags in self._tags.values() for tag in tags):
            own = self._taxa.setdefault(tag.taxonomy, {})
            own.setdefault(tag, len(own))
        self._taxonomies = list(self._taxa)
        self._cards = cards()

    def index(self, rule: str) -> int:
        """The number of ``rule`` among the descriptors."""
        return self._index[rule]

    def identifier(self, rule: str) -> str:
        """``rule`` as an identifier: one line of bounded length."""
        return shortened(one_line(rule), _MOST_NAME) or STUDY_RULE

    def descriptors(self) -> list[dict[str, Any]]:
        """The rules as ``reportingDescriptor`` objects."""
        return [self._descriptor(name, check) for name, check in self._checks.items()]

    def taxonomies(self) -> list[dict[str, Any]]:
        """The taxonomies that the rules refer to, with the entries referred to, as ``toolComponent`` objects."""
        return [
            {
                "name": taxonomy.name,
                "version": taxonomy.version,
                "organization": taxonomy.publisher,
                "shortDescription": {"text": taxonomy.title},
                "informationUri": taxonomy.url,
                "guid": _guid(taxonomy),
                "isComprehensive": False,
                "taxa": [
                    {
                        "id": tag.id,
                        "name": tag.name,
                        "shortDescription": {"text": tag.title},
                        "helpUri": tag.url,
                    }
                    for tag in self._taxa[taxonomy]
                ],
            }
            for taxonomy in self._taxonomies
        ]

    def _tags_of(self, check: Check) -> list[Tag]:
        if check.cell is None:
            return []
        return [tag for tags in tags_of([check.cell.attack]).values() for tag in tags if tag.url]

    def _descriptor(self, name: str, check: Check) -> dict[str, Any]:
        card = self._cards.get(check.cell.attack, {}) if check.cell else {}
        title = check.result.title if check.result else name
        tags = self._tags[name]
        short = f"{title}: {check.required}" if check.finding else check.required
        what = f"The policy asks: {check.required}." if check.finding else f"{check.required}."
        full = f"{card['purpose']} {what}" if card.get("purpose") else what
        marks = ["security", "privacy", *(f"external/{tag.taxonomy.key}/{tag.id}" for tag in tags)]
        paper = card.get("paper") or {}
        help_uri = paper.get("url") or next((tag.url for tag in tags), "")
        return {
            "id": self.identifier(name),
            **_name(name),
            "shortDescription": {"text": message(short, _MOST_DESCRIPTION)},
            "fullDescription": {"text": message(full, _MOST_DESCRIPTION)},
            **({"helpUri": help_uri} if help_uri else {}),
            "help": self._help(check, card, tags, full),
            "defaultConfiguration": {"level": "error"},
            **({"relationships": self._relationships(tags)} if tags else {}),
            "properties": {
                "tags": marks[:MOST_TAGS] if check.cell else marks[:1],
                "precision": "high",
                "problem.severity": "error",
                **({"security-severity": _SEVERITY} if tags else {}),
            },
        }

    def _relationships(self, tags: list[Tag]) -> list[dict[str, Any]]:
        return [
            {
                "target": {
                    "id": tag.id,
                    "index": self._taxa[tag.taxonomy][tag],
                    "toolComponent": {
                        "name": tag.taxonomy.name,
                        "index": self._taxonomies.index(tag.taxonomy),
                        "guid": _guid(tag.taxonomy),
                    },
                },
                "kinds": ["relevant"],
            }
            for tag in tags
        ]

    def _help(self, check: Check, card: dict[str, Any], tags: list[Tag], full: str) -> dict[str, str]:
        advice = (
            "A result means that the line does not hold, or that the evidence does not decide. Read the evidence in "
            "report.html; then change the model, add a defence under 'defenses' in the spec, or change the line on purpose."
        )
        threat = card.get("threat_model") or (check.result.threat_model if check.result else "")
        paragraphs = [escaped(full), escaped(advice)]
        if threat:
            paragraphs.append(f"**Adversary.** {escaped(threat)}")
        if check.finding:
            paragraphs.append(f"**Line of the policy.** {code(check.required)}")
        if paper := card.get("paper"):
            source = f"{paper['authors']}: {paper['title']} ({paper['year']})"
            paragraphs.append(f"**Paper.** {escaped(source)}, <{paper['url']}>")
        if tags:
            listed = "\n".join(f"- [{escaped(tag.title)}]({tag.url})" for tag in tags)
            paragraphs.append(f"**Standard tags**\n\n{listed}")
        return {
            "text": message(f"{full} {advice}", _MOST_HELP),
            "markdown": shortened("\n\n".join(paragraphs), _MOST_HELP),
        }


def _guid(taxonomy: Taxonomy) -> str:
    return str(uuid5(NAMESPACE_URL, f"{taxonomy.url}#{taxonomy.version}"))


def _name(rule: str) -> dict[str, str]:
    """``EncoderInferenceIdentified``, as viewers expect names of rules; nothing where it would say the identifier again."""
    words = re.findall(r"[A-Za-z0-9]+", rule)
    name = shortened("".join(word[0].upper() + word[1:] for word in words), _MOST_NAME)
    return {"name": name} if name and name.lower() != rule.lower() else {}
