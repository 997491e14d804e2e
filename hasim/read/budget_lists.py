"""The budget lists of scenarios.yaml: metrics to thresholds, or the thresholds of a k6 script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hasim.budgets import contradiction, parse_metric, parse_threshold
from hasim.errors import Finding, did_you_mean
from hasim.read.forms import Loc, place, problem
from hasim.read.k6 import K6Script
from hasim.read.scenario_forms import LongThreshold
from hasim.read.yaml12 import Node
from hasim.scenario import Budget


class BudgetReader:
    """Turns budget forms into Budgets and collects what is wrong. `named`: the top-level lists."""

    def __init__(self, node: Node, named: Mapping[str, Any]):
        self.node, self.named = node, named
        self.findings: list[Finding] = []

    def wrong(self, message: str, loc: Loc, hint: str = "", *, key: bool = False) -> None:
        """An error at `loc`."""
        self.findings.append(problem(message, place(self.node, loc, key=key), hint))

    def script(self, name: str) -> tuple[K6Script | None, list[Finding]]:
        """The k6 script of that name."""
        raise NotImplementedError

    def budgets(self, value: Any, loc: Loc) -> tuple[Budget, ...]:
        """The Budgets of one list: a map, the name of a top-level list, or None."""
        if value is None:
            return ()
        if isinstance(value, str):
            if value not in self.named:
                hint = did_you_mean(value, self.named)
                self.wrong(f"budgets '{value}' are not defined", loc, hint)
                return ()
            return self.budgets(self.named[value], ("budgets", value))
        stated = {k: v for k, v in value.items() if k != "from"}
        made = self._of_script(value["from"], loc, stated) if "from" in value else []
        for metric, thresholds in stated.items():
            made += self._of_metric(metric, thresholds, (*loc, metric))
        for name in dict.fromkeys(b.name for b in made):
            pair = contradiction(b.threshold for b in made if b.name == name)
            if pair:
                text = f"{name}: '{pair[0].text}' and '{pair[1].text}' cannot both hold"
                self.wrong(text, (*loc, name), key=True)
        return tuple(made)

    def _of_metric(self, metric: str, thresholds: Any, loc: Loc) -> list[Budget]:
        try:
            name, tags = parse_metric(metric)
        except ValueError as error:
            self.wrong(str(error), loc, key=True)
            return []
        if isinstance(thresholds, str):
            self.wrong("a list of thresholds is needed here", loc, f'write ["{thresholds}"]')
            return []
        made = []
        for i, item in enumerate(thresholds):
            text, at = item, (*loc, i)
            if isinstance(item, LongThreshold):
                text, at = item.threshold, (*loc, i, "threshold")
                if item.abort_on_fail:
                    span = place(self.node, (*loc, i))
                    message = "abort_on_fail has no effect: a simulated run is judged at its end"
                    self.findings.append(Finding("warning", "HA105", message, span))
            try:
                threshold = parse_threshold(text, name)
                made.append(Budget(name, tags, threshold, place(self.node, at)))
            except ValueError as error:
                self.wrong(str(error), at)
        return made

    def _of_script(self, name: Any, loc: Loc, stated: Mapping[str, Any]) -> list[Budget]:
        """The thresholds of a k6 script, less the metrics that are stated here."""
        if not isinstance(name, str):
            self.wrong("the name of a k6 script is needed here", (*loc, "from"))
            return []
        script, found = self.script(name)
        self.findings += found
        if script is None:
            self.wrong(f"there is no file '{name}'", (*loc, "from"))
            return []
        made = []
        for row in script.thresholds:
            if row.metric in stated:
                continue
            try:
                metric, tags = parse_metric(row.metric)
                made.append(Budget(metric, tags, parse_threshold(row.threshold, metric), row.span))
            except ValueError as error:
                self.findings.append(problem(str(error), row.span))
        return made
