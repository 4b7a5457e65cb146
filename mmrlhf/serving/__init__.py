"""The reward server: a reward model behind HTTP. `wire.py` reads requests, `scoring.py` makes rows of them and judges
these, `batching.py` puts requests together, `app.py` has the addresses, `serve.py` is the command.

FastAPI, uvicorn and python-multipart come with `pip install 'mmrlhf[serve]'`; only `app.py` and `serve.py` need them.
"""
