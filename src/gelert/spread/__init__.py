"""One function over many jobs: in this process, in several of this machine, or on a Ray cluster; the same results."""
