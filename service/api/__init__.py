"""FastAPI: one module per resource. `app.create_app` puts them together from its ports."""
