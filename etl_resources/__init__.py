"""How data moves and commits. Knows no dataset; never imports etl_assets."""
