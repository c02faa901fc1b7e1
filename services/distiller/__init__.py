"""The distiller's process."""
