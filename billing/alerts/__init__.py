"""What a workspace is told before it hurts: credit that is low or expires, limits at a share, fallbacks, models that will go.

    judging     what is to be told, from figures and from what was told before (pure)
    terms       what a workspace wants to be told and who of its people, within what their roles may see
    records     what requests say of all workspaces at once
    watching    reads the figures of workspaces in turn, a chore of housekeeping; apps above read theirs for it
    spreading   gives each notice to whom it is for, a chore of housekeeping
    mailing     the task that sends one mail, tried again for hours

Nothing here runs in a request: figures are read, and mail is sent, beside them.
"""
