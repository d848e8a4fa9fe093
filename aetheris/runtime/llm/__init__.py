"""Asking models: `ctx.llm`, over any endpoint that speaks the chat completions protocol."""
