"""`python -m relay` is the `relay` command."""

from relay.cli import app

if __name__ == "__main__":
    app(prog_name="relay")
