"""The four sentences that a manager reads: what was asked, found, what it means, what to do next."""

from __future__ import annotations

from dataclasses import dataclass

from dosimeter.core.registry import catalogue
from dosimeter.core.result import Verdict
from dosimeter.report.wording import counted, listed
from dosimeter.study.outcome import Cell, StudyOutcome

_HEADLINES: dict[Verdict, tuple[str, str]] = {
    "pass": ("The policy holds.", "The attacks did not succeed."),
    "fail": ("The policy does not hold.", "An attack succeeded."),
    "undetermined": ("The evidence does not decide.", "The evidence does not decide."),
    "error": ("Something could not be completed.", "Something could not be completed."),
}
_NEXT_STEPS: dict[Verdict, str] = {
    "pass": "Keep the specification and run it again whenever the model, its data or the service changes.",
    "fail": "Add a defence to the specification and run it again: the report then shows what each defence costs and stops.",
    "undetermined": "Follow the reasons above: usually more data, more queries or more candidates settle the question.",
    "error": "Mend what is named above and run the same command again; finished parts are not repeated or paid for twice.",
}


@dataclass(frozen=True)
class Summary:
    """Plain sentences. ``reasons`` explain every part that failed to decide."""

    headline: str
    asked: str
    questions: list[str]
    found: str
    meaning: str
    reasons: list[str]
    next_step: str


def summarise(outcome: StudyOutcome) -> Summary:
    """The summary of ``outcome``, in words made from its own fields."""
    with_policy, without_policy = _HEADLINES[outcome.verdict]
    return Summary(
        headline=with_policy if outcome.findings else without_policy,
        asked=_asked(outcome),
        questions=_questions(outcome),
        found=outcome.summary,
        meaning=_meaning(outcome),
        reasons=_reasons(outcome),
        next_step=outcome.next_step or _NEXT_STEPS[outcome.verdict],
    )


def _asked(outcome: StudyOutcome) -> str:
    cells = [done.cell for done in outcome.cells]
    attacks = list(dict.fromkeys(done.result.title for done in outcome.cells))
    defenses = list(dict.fromkeys(cell.defense for cell in cells if cell.defense != "none"))
    seeds = len({cell.seed for cell in cells})
    if not cells:
        return f"Nothing was run against {outcome.target}."
    against = f"{outcome.target}, as it is and behind {listed(defenses)}" if defenses else outcome.target
    if defenses and all(cell.defense != "none" for cell in cells):
        against = f"{outcome.target} behind {listed(defenses)}"
    repeated = f", each with {seeds} seeds" if seeds > 1 else ""
    if len(attacks) == 1:
        return f"{attacks[0]} against {against}{repeated}."
    return f"{counted(len(attacks), 'attack')} against {against}{repeated}: {listed(attacks)}."


def _questions(outcome: StudyOutcome) -> list[str]:
    """The purpose of each attack, where the catalogue knows it."""
    purposes = {entry.name: entry.purpose for entry in catalogue() if entry.card}
    attacks = dict.fromkeys(done.cell.attack for done in outcome.cells)
    return [purposes[attack] for attack in attacks if purposes.get(attack)]


def _meaning(outcome: StudyOutcome) -> str:
    verdicts = [finding.verdict for finding in outcome.findings]
    if not verdicts:
        return (
            "No policy was given, so each attack was judged by its own rule, stated with its evidence below. "
            "A pass speaks for these attacks, this budget and this data, not for others."
        )
    states = {
        "pass": "holds",
        "fail": "does not hold",
        "undetermined": "is undecided",
        "error": "could not be judged",
    }
    plural = {
        "pass": "hold",
        "fail": "do not hold",
        "undetermined": "are undecided",
        "error": "could not be judged",
    }
    parts = [
        f"{count} {states[verdict] if count == 1 else plural[verdict]}"
        for verdict in ("fail", "error", "undetermined", "pass")
        if (count := verdicts.count(verdict))
    ]
    counts = f"Of {counted(len(verdicts), 'line')} of the policy, {listed(parts)}."
    scope = {
        "pass": "This speaks for these attacks, this budget and this data; it does not rule out others.",
        "fail": "Somebody with the same access and budget can repeat what is shown below.",
        "undetermined": "Undecided is neither safe nor unsafe: do not read it as a pass.",
        "error": "A part that did not complete says nothing about the target: do not read it as a pass.",
    }
    return f"{counts} {scope[outcome.verdict]}"


def _reasons(outcome: StudyOutcome) -> list[str]:
    cells = [
        f"{done.cell.label}: {done.result.reason}"
        for done in outcome.cells
        if done.result.reason and done.result.verdict in ("undetermined", "error")
    ]
    findings = [
        f"{finding.metric}{_behind(finding.cell)}: {finding.reason}"
        for finding in outcome.findings
        if finding.reason and finding.verdict in ("undetermined", "error")
    ]
    return list(dict.fromkeys(cells + findings))


def _behind(cell: Cell) -> str:
    return f", seed {cell.seed}" if cell.defense == "none" else f" behind {cell.defense}, seed {cell.seed}"
