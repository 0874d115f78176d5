"""``tools/cluster``: see ``tools/cluster --help``."""

from sluice_dev.cluster.command import main

if __name__ == "__main__":
    raise SystemExit(main())
