"""Event loops: what asyncio and trio do differently, requests, and deadlines."""
