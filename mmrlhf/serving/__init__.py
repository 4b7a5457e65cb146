"""The reward server: a reward model behind HTTP. `intake.py` takes in bodies, `parts.py` and `wire.py` read them,
`scoring.py` makes rows of them and judges these, `batching.py` puts requests together, `app.py` has the addresses, and
`serve.py` is the command.

FastAPI, uvicorn and python-multipart come with `pip install 'mmrlhf[serve]'`, and are imported once a server is made.
"""
