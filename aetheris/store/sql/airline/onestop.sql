-- Pairs of flights with one stop that can be booked; the second leaves after the first lands, that day or, when
-- the first lands after midnight ("+1"), the next.
-- The second leg is shown as it stands on the FIRST day, also when it leaves on the next: the original desk did so,
-- and it is what the recorded agents were told.
SELECT f1.shown::text AS first, d1.shown::text AS first_day,
       f2.shown::text AS second, coalesce(told.shown, d2.shown)::text AS second_day, d2.day AS second_date
FROM airline.flights f1
JOIN airline.flight_days d1 ON d1.dataset = f1.dataset AND d1.flight_number = f1.flight_number
JOIN airline.flights f2 ON f2.dataset = f1.dataset AND f2.origin = f1.destination
JOIN airline.flight_days d2 ON d2.dataset = f2.dataset AND d2.flight_number = f2.flight_number
    AND d2.day = CASE WHEN f1.arrives LIKE '%%+1%%' THEN %(next_day)s ELSE %(day)s END
LEFT JOIN airline.flight_days told ON told.dataset = f2.dataset AND told.flight_number = f2.flight_number
    AND told.day = %(day)s
WHERE f1.dataset = %(dataset)s AND f1.origin = %(origin)s AND f2.destination = %(destination)s
  AND d1.day = %(day)s AND d1.status = 'available' AND d2.status = 'available'
  AND f1.arrives <= f2.departs
ORDER BY f1.position, f2.position
