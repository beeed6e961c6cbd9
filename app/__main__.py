"""`python -m app [FILE…]`. Worker processes import this module again under another name: nothing may happen then."""

import sys

if __name__ == "__main__":
    from multiprocessing import freeze_support

    freeze_support()
    from xai_engine.cli import main

    sys.exit(main(sys.argv[1:]))
