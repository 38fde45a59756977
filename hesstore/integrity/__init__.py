"""Checks of whether a store contains what it promises: verify, repair, recheck. May import ``engine`` and below."""
