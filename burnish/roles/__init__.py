"""Roles of models beside the trained one: scorers, which compute scores of responses without gradient."""
