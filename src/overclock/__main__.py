"""`python -m overclock` is `overclock`."""

from overclock.cli.main import main

if __name__ == "__main__":
    main()
