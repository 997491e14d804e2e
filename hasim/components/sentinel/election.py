"""Asking the others: is the master down, and whom do you vote for?

Source: src/sentinel.c 7.0.15 (sentinelAskMasterStateToOtherSentinels, sentinelVoteLeader,
sentinelGetLeader, sentinelCommand); reference/redis-sentinel.md sections 4 and 6.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hasim.components.sentinel.entries import NONE, Entry, Master
from hasim.components.sentinel.link import MS

if TYPE_CHECKING:
    from hasim.components.sentinel.daemon import Sentinel

ASK_NS = 1000 * MS  # source: sentinel.c, sentinel_ask_period
VALID_NS = 5 * ASK_NS  # source: sentinelAskMasterStateToOtherSentinels
MAX_DESYNC_MS = 1000  # source: sentinel.c, SENTINEL_MAX_DESYNC


def ask(sentinel: Sentinel, master: Master, forced: bool) -> None:
    """Ask each other Sentinel a second after its last answer; a candidate asks for its vote."""
    t = sentinel.now
    for peer in master.sentinels:
        waited = t - peer.reply
        if waited > VALID_NS:
            peer.says_down, peer.leader = False, ""
        if not master.entry.s_down or peer.link.disconnected:
            continue
        if not forced and waited < ASK_NS:
            continue
        if master.state == NONE:
            _ask_state(sentinel, master, peer)
        else:
            _ask_vote(sentinel, master, peer)


def _ask_state(sentinel: Sentinel, master: Master, peer: Entry) -> None:
    """Without a vote: nobody but this Sentinel hears anything new, so the answer is just read."""
    view = sentinel.view(peer)
    if not peer.link.open or not view.answers or view.process is not peer.link.process:
        return
    peer.reply = sentinel.now + sentinel.delay(peer.name)
    peer.says_down = master.entry.name in sentinel.opinions.get(peer.name, ())


def _ask_vote(sentinel: Sentinel, master: Master, peer: Entry) -> None:
    """A request that the other one answers after it has written its vote."""
    view, asker, epoch = sentinel.view(peer), sentinel.id, sentinel.epoch
    if not peer.link.open or not view.answers or view.process is not peer.link.process:
        return
    fellow: Sentinel = view.process.data
    name = master.entry.name

    def arrived() -> None:
        says = name in fellow.thinks_down()
        leader, its_epoch = "", 0
        its = next((m for m in fellow.masters if m.entry.name == name), None)
        if its is not None:
            leader, its_epoch = vote(fellow, its, epoch, asker)
        fellow.send(
            sentinel.name, lambda: sentinel.receive(lambda: answered(says, leader, its_epoch))
        )

    def answered(says: bool, leader: str, its_epoch: int) -> None:
        peer.reply, peer.says_down = sentinel.now, says
        if leader:
            peer.leader, peer.leader_epoch = leader, its_epoch

    sentinel.send(peer.name, lambda: fellow.receive(arrived))


def vote(sentinel: Sentinel, master: Master, epoch: int, candidate: str) -> tuple[str, int]:
    """Vote for the first who asks in an epoch. (whom this Sentinel voted for, in which epoch)."""
    if epoch > sentinel.epoch:
        sentinel.epoch = epoch
        sentinel.flush()
        sentinel.say("+new-epoch", str(epoch), master.mark)
    if master.leader_epoch < epoch and sentinel.epoch <= epoch:
        master.leader, master.leader_epoch = candidate, sentinel.epoch
        sentinel.flush()
        sentinel.say("+vote-for-leader", f"{candidate} {epoch}", master.mark)
        if candidate != sentinel.id:
            master.start = sentinel.now + desync(sentinel)
    return master.leader, master.leader_epoch


def desync(sentinel: Sentinel) -> int:
    """rand() % SENTINEL_MAX_DESYNC, in ns."""
    sentinel.draws += 1
    draw = sentinel.world.draw(sentinel.stream, sentinel.draws, "desync")
    return int(draw * MAX_DESYNC_MS) * MS


def leader(sentinel: Sentinel, master: Master) -> str:
    """Who has won the vote of this failover's epoch; "" while nobody has."""
    epoch = master.failover_epoch
    votes = Counter(
        s.leader for s in master.sentinels if s.leader and s.leader_epoch == sentinel.epoch
    )
    first = votes.most_common(1)
    mine, its_epoch = vote(sentinel, master, epoch, first[0][0] if first else sentinel.id)
    if mine and its_epoch == epoch:
        votes[mine] += 1
    if not votes:
        return ""
    best, count = max(votes.items(), key=lambda v: v[1])
    return best if count >= master.votes_needed() else ""
