"""What a session and its requests are asked to do: ``connect``'s arguments, profiles, and both
resolved."""
