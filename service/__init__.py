"""epochd: trains Keras models behind a REST API. `docs/architecture.md` draws the rooms; `main.py` is the door."""
