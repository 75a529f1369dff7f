"""The paper's laboratory: its studies as tables of choices, run, gathered and set beside the paper's numbers."""
