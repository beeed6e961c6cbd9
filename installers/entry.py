"""Where the frozen program starts. Worker processes start here too, and must be caught before anything else."""

import multiprocessing

if __name__ == "__main__":
    multiprocessing.freeze_support()
    from xai_engine.cli import main

    raise SystemExit(main())
