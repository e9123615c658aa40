"""Text: templates, rendered within bounds, and chats as readable text.

It offers:

- `templating.render`: a template that ships with a wing; `templating.render_text`: a template from a recipe
- `templating.nonces`: marks that no text contains, to fence texts in a request; `templating.transcript`: a chat as text
- `sandbox`: the Jinja environment for templates from recipes, bounded in size and time

It may import ids and errors.
"""
