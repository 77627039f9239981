"""What audit does with what arrives: events, due timers, and the manual acts of the HTTP edge."""
