"""How much memory this process has, and could still get."""


def get_process_memory() -> int:
    """Return the bytes that this process has and could still get of the machine's memory."""
    import psutil

    return int(psutil.virtual_memory().available + psutil.Process().memory_info().rss)
