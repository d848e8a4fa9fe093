"""Aetheris: a durable runtime for agent jobs whose log an auditor can check."""
