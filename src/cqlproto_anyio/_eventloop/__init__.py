"""What asyncio and trio do each in their own way, and the requests that tasks wait for."""
