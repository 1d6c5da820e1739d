"""The simulator: the node's own engine in virtual time, and the abstract epidemics of the literature.

Dependencies point one way, `sim -> core` (and the bytes of the wire): no node ever imports this package. What needs
NumPy or matplotlib (`rumor`, `spread`, `topology`, `plots`; the extra `sim`) imports them where it is used for its
own work, so that the rest runs without.
"""
