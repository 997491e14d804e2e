"""The life of the alerts of one rule: inactive, pending, firing, resolved.

Read beside Prometheus' rules/alerting.go, AlertingRule.Eval (2.42).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hasim.components.prometheus.evaluate import EvaluationError, Labels, Vector, without_name
from hasim.read.prometheus import Rule

PENDING, FIRING = "pending", "firing"
# Changes that an evaluation makes, in the words of the timeline.
BEGINS, FIRES, RESOLVED, GONE = "alert pending", "ALERTS firing", "resolved", "alert inactive"


@dataclass(slots=True)
class Alert:
    """One active alert. mark: the row of the timeline that told of it last."""

    labels: Labels
    value: float
    since_s: float
    source: Labels  # of the sample behind it
    state: str = PENDING
    keep_since_s: float | None = None
    mark: int = -1


@dataclass(frozen=True, slots=True)
class Change:
    """What an evaluation changed about one alert."""

    what: str
    alert: Alert


class RuleState:
    """The active alerts of one rule."""

    def __init__(self, rule: Rule):
        self.rule = rule
        self.active: dict[Labels, Alert] = {}

    def labelled(self, labels: Labels) -> Labels:
        """The alert's labels: the sample's without its name, the rule's, and `alertname`."""
        made = dict(without_name(labels)) | dict(self.rule.labels)
        made = {k: v for k, v in made.items() if v}
        return tuple(sorted({**made, "alertname": self.rule.alert}.items()))

    def update(self, vector: Vector, at_s: float) -> list[Change]:
        """One evaluation. EvaluationError leaves the alerts as they are."""
        found: dict[Labels, Alert] = {}
        for labels, value in vector:
            key = self.labelled(labels)
            if key in found:
                raise EvaluationError("duplicate labels after applying alert labels")
            found[key] = Alert(key, value, at_s, labels)
        for key, alert in found.items():
            if key in self.active:
                self.active[key].value = alert.value
            else:
                self.active[key] = alert
        out: list[Change] = []
        for key, alert in list(self.active.items()):
            out += self._step(alert, key in found, at_s)
        return out

    def _step(self, alert: Alert, holds: bool, at_s: float) -> Iterable[Change]:
        rule = self.rule
        if not holds:
            if alert.state == FIRING and rule.keep_firing_s > 0:
                alert.keep_since_s = at_s if alert.keep_since_s is None else alert.keep_since_s
                if at_s - alert.keep_since_s < rule.keep_firing_s - EPSILON_S:
                    return
            del self.active[alert.labels]
            yield Change(RESOLVED if alert.state == FIRING else GONE, alert)
            return
        alert.keep_since_s = None
        if alert.state == PENDING and at_s - alert.since_s >= rule.for_s - EPSILON_S:
            alert.state = FIRING
            yield Change(FIRES, alert)
        elif alert.state == PENDING and alert.since_s == at_s:
            yield Change(BEGINS, alert)


EPSILON_S = 1e-6  # source: our clock counts ns; evaluations are whole intervals apart
