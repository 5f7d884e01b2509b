"""Appointment reminders: extract what is due, record it once, and contact each client at most once for it."""
