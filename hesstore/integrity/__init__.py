"""Whether a store holds what it promises: verify, repair, recheck. May import ``engine`` and below."""
