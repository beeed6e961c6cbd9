"""`python -m xai_engine` is `radiolucent`."""

if __name__ == "__main__":  # worker processes import this module under another name
    from multiprocessing import freeze_support

    freeze_support()
    from xai_engine.cli import main

    raise SystemExit(main())
