"""What the literature says of abstract epidemics: the formulae beside which simulations are drawn, with their sources.

Symbols: n nodes; p = 1 - loss, the share of messages that arrive; F partners a node and round (fan-out); u the
share of nodes that does not know yet; s the share that never learns (residue); m messages a node (traffic).

| source | what is from there |
| --- | --- |
| Demers et al., Epidemic Algorithms for Replicated Database Maintenance, PODC 1987 (rev. 1989) | residues, u -> u^2 |
| Pittel, On Spreading a Rumor, SIAM J. Appl. Math. 47 (1987) | push: log2 n + ln n |
| Karp, Schindelhauer, Shenker, Voecking, Randomized Rumor Spreading, FOCS 2000 | push-pull: log3 n + O(log log n) |
| Doerr, Kostrygin, Randomized Rumor Spreading Revisited, ICALP 2017 | lossy pull and push-pull |
"""

from __future__ import annotations

import math

from gossip_grpc.core.sync import Strategy


def rounds(strategy: Strategy, nodes: int, loss: float = 0.0, fanout: int = 1) -> float:
    """Rounds until all nodes know: the greater of the lossless and the lossy formula.

    With little loss the end without it still takes its time, with much the lossy one does; neither is right for both.
    """
    without = rounds_lossless(strategy, nodes, fanout)
    return without if loss == 0 else max(without, rounds_lossy(strategy, nodes, loss, fanout))


def rounds_lossless(strategy: Strategy, nodes: int, fanout: int = 1) -> float:
    """Growth until about all know, and then the end-game, when no message is lost.

    | strategy | growth | end-game |
    | --- | --- | --- |
    | push | log2 n | ln n: a node is missed by all with probability 1/e |
    | pull | log2 n | log2 ln n: u -> u^2 |
    | push-pull | log3 n | log2 ln n |

    More partners are F such steps in a round: bases 1 + F and 1 + 2F, an end by e^-F and u^(1+F). For F = 1 these are
    the formulae of the sources; for more they are the same argument, not a result of theirs.
    """
    grow = 1 + fanout * (2 if strategy is Strategy.PUSH_PULL else 1)
    end = math.log(nodes) / fanout if strategy is Strategy.PUSH else math.log(math.log(nodes), 1 + fanout)
    return math.log(nodes, grow) + end


def rounds_lossy(strategy: Strategy, nodes: int, loss: float, fanout: int = 1) -> float:
    """The same when each message is lost with probability `loss` > 0: growth by Fp, an end that is a race with luck.

    | strategy | growth | end-game |
    | --- | --- | --- |
    | push | ln n / ln(1+p) | ln n / p |
    | pull | ln n / ln(1+p) | ln n / -ln(1-p): who does not know asks one who does, and is unlucky |
    | push-pull | ln n / ln(1+2p) | ln n / (p - ln(1-p)): unlucky in both |
    """
    arrives = 1 - loss
    grow = 1 + fanout * arrives * (2 if strategy is Strategy.PUSH_PULL else 1)
    end = (
        fanout
        * {
            Strategy.PUSH: arrives,
            Strategy.PULL: -math.log(loss),
            Strategy.PUSH_PULL: arrives - math.log(loss),
        }[strategy]
    )
    return math.log(nodes) / math.log(grow) + math.log(nodes) / end


def hypercube_rounds(strategy: Strategy, nodes: int) -> int:
    """Rounds of deterministic doubling, when nothing is lost and all nodes begin at the same step.

    After r rounds 2^r nodes in a row know; with push-pull as many on both sides of the first, 2^(r+1) - 1. So it takes
    ceil(log2 n) rounds, and floor(log2 n).
    """
    return nodes.bit_length() - 1 if strategy is Strategy.PUSH_PULL else (nodes - 1).bit_length()


def informed(strategy: Strategy, nodes: int, loss: float = 0.0, fanout: int = 1) -> list[float]:
    """The expected share of nodes that know after each round, from round 0, until less than half a node does not.

    The mean-field recursion: each round as it would be if the round before had gone as expected (Demers et al., 1.3,
    for F = 1 without loss). It leaves out the luck of the first rounds, by which a run is early or late as a whole.
    """
    arrives = 1 - loss
    share = 1 / nodes
    shares = [share]
    while (1 - share) * nodes >= 0.5:  # half a node
        others = share * nodes / (nodes - 1)
        missed = 1.0
        if strategy.sends:
            missed *= (1 - arrives * fanout / (nodes - 1)) ** (share * nodes)
        if strategy.fetches:
            missed *= (1 - arrives * min(others, 1.0)) ** fanout
        share = 1 - (1 - share) * missed
        shares.append(share)
    return shares


def residue_of_traffic(traffic: float) -> float:
    """The law s = e^-m: what push leaves, however it decides when to stop (Demers et al., 1.4).

    A message hits a node chosen uniformly, so nm of them miss a given one with probability (1 - 1/n)^nm.
    """
    return math.exp(-traffic)


def residue_feedback_coin(k: int) -> float:
    """The law s = e^-(k+1)(1-s): push, stopping with probability 1/k after a useless contact (Demers et al., 1.4)."""
    return _residue(k + 1)


def residue_blind(k: int) -> float:
    """The law s = e^-k(1-s): push, k messages of each node that knows, on average or exactly; s = e^-m with m = k(1-s).

    With exactly k it is infect-and-die with fan-out k, whose law is older than gossip: the final size of an epidemic
    (Kermack, McKendrick 1927).
    """
    return _residue(k)


def _residue(contacts: int) -> float:
    """The root of s = e^-c(1-s) below 1, or 1 if there is none: nobody infects more than one other on average.

    Iteration from 0 climbs to the smallest root, by the factor cs < 1 a step.
    """
    if contacts <= 1:
        return 1.0
    residue, before = math.exp(-contacts), 0.0
    while residue - before > 1e-15:
        residue, before = math.exp(-contacts * (1 - residue)), residue
    return residue
