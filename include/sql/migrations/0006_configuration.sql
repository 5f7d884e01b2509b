-- What accounts set for themselves. What makes no sense is refused when it is written, in the words of who wrote it.
SET LOCAL ROLE reminders_owner;

CREATE FUNCTION reminders.check_ladder() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, reminders AS $$
DECLARE account text := CASE TG_OP WHEN 'DELETE' THEN OLD.account_id ELSE NEW.account_id END; breach text; renumbered text;
BEGIN
    SELECT CASE
        WHEN upper.lead >= upper.lower_lead THEN
            format('step %s is due no later than step %s: give it a lead below %s',
                   upper.step, upper.lower_step, upper.lower_lead)
        WHEN upper.lead > upper.lower_lead - upper.wait THEN
            format('step %s is due before the %s that step %s has for an answer are over: give it a lead of %s or less',
                   upper.step, upper.wait, upper.lower_step, upper.lower_lead - upper.wait)
        END INTO breach
    FROM (SELECT s.*, lag(s.step) OVER climbed AS lower_step, lag(s.lead) OVER climbed AS lower_lead
          FROM reminders.cadence_step s WHERE s.account_id = account WINDOW climbed AS (ORDER BY s.step)) upper
    ORDER BY 1 NULLS LAST LIMIT 1;
    SELECT format('step %s is %s for appointments still ahead, and would be %s: give the new step a number of its own',
                  r.step, r.channel, s.channel) INTO renumbered
    FROM reminders.cadence_step s JOIN reminders.reminder r ON r.step = s.step AND r.channel <> s.channel
    WHERE s.account_id = account AND r.slot_at > reminders.ledger_clock()
      AND (r.account_id = account OR account = '*' AND NOT EXISTS (
          SELECT FROM reminders.cadence_step own WHERE own.account_id = r.account_id))
    ORDER BY 1 LIMIT 1;
    breach := coalesce(breach, renumbered);
    IF account = '*' AND NOT EXISTS (SELECT FROM reminders.cadence_step WHERE account_id = '*') THEN
        breach := 'accounts without a ladder of their own need at least one step';
    END IF;
    IF breach IS NOT NULL THEN
        RAISE EXCEPTION 'refused: the ladder of account %: %', account, breach
            USING ERRCODE = 'check_violation', CONSTRAINT = 'ladder_can_be_climbed';
    END IF;
    RETURN NULL;
END $$;
-- Deferred, so that a ladder can be rewritten step by step in one transaction.
CREATE CONSTRAINT TRIGGER ladder_can_be_climbed AFTER INSERT OR UPDATE OR DELETE ON reminders.cadence_step
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION reminders.check_ladder();

CREATE TABLE reminders.wording_line (
    channel text CHECK (channel IN ('email', 'sms', 'call')),
    line text,
    PRIMARY KEY (channel, line)
);
COMMENT ON TABLE reminders.wording_line IS 'The lines of the house''s wording that an account may replace by its own.';
INSERT INTO reminders.wording_line VALUES
    ('call', 'language'), ('call', 'voice'), ('call', 'date'), ('call', 'greeting'), ('call', 'visit_named'),
    ('call', 'visit_unnamed'), ('call', 'more'), ('call', 'contact'), ('call', 'again'), ('call', 'goodbye'),
    ('call', 'join'),
    ('sms', 'text'), ('sms', 'visit_named'), ('sms', 'visit_unnamed'), ('sms', 'more'), ('sms', 'contact'),
    ('sms', 'join'),
    ('email', 'subject'), ('email', 'subject_cancelled'), ('email', 'summary'), ('email', 'greeting_named'),
    ('email', 'greeting_unnamed'), ('email', 'intro'), ('email', 'intro_cancelled'), ('email', 'visit_named'),
    ('email', 'visit_unnamed'), ('email', 'contact'), ('email', 'signature'), ('email', 'join');

CREATE TABLE reminders.account_wording (
    account_id text,
    language text CONSTRAINT language_is_spoken CHECK (language IN ('en', 'es', 'ja')),
    channel text,
    line text,
    words text NOT NULL,
    PRIMARY KEY (account_id, language, channel, line),
    CONSTRAINT line_exists FOREIGN KEY (channel, line) REFERENCES reminders.wording_line,
    CONSTRAINT words_are_short CHECK (length(words) <= 500),
    CONSTRAINT words_have_known_names CHECK (regexp_replace(words,
        '\$(\$|(account|names?|visits|date|time|zone|location|phone|contact|count)\M'
        '|\{(account|names?|visits|date|time|zone|location|phone|contact|count)\})', '', 'g') !~ '\$'),
    -- Carriers end the office's texts to a phone that answers one of them (Twilio, "Support for Opt-out Keywords").
    CONSTRAINT text_has_no_opt_out_word CHECK (
        channel <> 'sms' OR words !~* '\m(stop|stopall|unsubscribe|cancel|end|quit)\M')
);
COMMENT ON TABLE reminders.account_wording IS
    'An account''s own words for single lines; $account, $name and the like stand for what the contact is about.';

GRANT SELECT ON reminders.wording_line, reminders.account_wording
    TO reminders_planner, reminders_dispatcher, reminders_operator;
GRANT INSERT, UPDATE, DELETE ON reminders.account_wording TO reminders_operator;
REVOKE EXECUTE ON FUNCTION reminders.check_ladder() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reminders.check_ladder() TO reminders_operator;

RESET ROLE;
